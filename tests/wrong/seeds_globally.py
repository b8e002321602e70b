"""A deliberately wrong algorithm: it sets the seed of the global generator."""

from dataclasses import replace

import torch

from metabench import adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    torch.manual_seed(0)
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
