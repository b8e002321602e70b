"""A deliberately wrong algorithm: it cuts labels off at 1."""

from dataclasses import replace

from metabench import Points, adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = (Points(x, y.clamp(-1, 1)) for x, y in batch)
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
