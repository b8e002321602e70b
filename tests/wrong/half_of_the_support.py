"""A deliberately wrong algorithm: it adapts to the first points of the support set alone."""

from dataclasses import replace

from metabench import Points, adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    (x, y), query = batch
    half = Points(x[..., : h.shots // 2, :], y[..., : h.shots // 2, :])
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, half.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
