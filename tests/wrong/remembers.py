"""A deliberately wrong algorithm: it remembers how often it was called."""

from dataclasses import replace
from itertools import count

from metabench import adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml

CALLS = count(1)


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query) / next(CALLS)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
