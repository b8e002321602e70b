"""A deliberately wrong algorithm: it forgets to add up over tasks."""

from dataclasses import replace

from metabench import adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    _, gradient = network.loss_and_gradient(phi, *query)
    return gradient


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
