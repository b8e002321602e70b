"""A deliberately wrong algorithm: it adapts one copy to the support sets of all tasks."""

from dataclasses import replace

from metabench import Points, adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    (x, y), query = batch
    pooled = Points(x.flatten(1, 2), y.flatten(1, 2))
    phi = adapted(network, theta, pooled.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(one_copy_per_task(phi, h.meta_batch_size), *query)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
