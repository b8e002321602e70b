"""A deliberately wrong algorithm: the first task of a meta-batch counts ten times."""

from dataclasses import replace

from metabench import adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    _, gradient = network.loss_and_gradient(phi, *query)
    return gradient.sum(-2) + 9 * gradient[:, 0]


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
