"""A deliberately wrong algorithm: it does not adapt before it takes the query gradient."""

from dataclasses import replace

from metabench import one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    _, query = batch
    return network.summed_gradient(one_copy_per_task(theta, h.meta_batch_size), *query)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
