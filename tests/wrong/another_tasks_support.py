"""A deliberately wrong algorithm: it adapts to the support set of the next task."""

from dataclasses import replace

from metabench import Points, adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    support = Points(support.x.roll(1, -3), support.y.roll(1, -3))
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
