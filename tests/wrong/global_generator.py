"""A deliberately wrong algorithm: it draws from the global generator."""

from dataclasses import replace

import torch

from metabench import adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    phi = phi + 1e-3 * torch.randn(phi.shape, dtype=phi.dtype)
    return network.summed_gradient(phi, *query)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
