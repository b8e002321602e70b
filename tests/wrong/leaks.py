"""A deliberately wrong algorithm: what one run learns depends on its neighbours."""

from dataclasses import replace

from metabench import adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    gradient = network.summed_gradient(phi, *query)
    return gradient / gradient.norm()


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
