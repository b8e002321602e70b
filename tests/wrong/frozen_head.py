"""A deliberately wrong algorithm: its output layer never learns."""

from dataclasses import replace

from metabench import adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    gradient = network.summed_gradient(phi, *query)
    return gradient.masked_fill(network.head, 0.0)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
