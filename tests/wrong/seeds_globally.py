"""A deliberately wrong algorithm: it sets the seed of the global generator."""

from dataclasses import replace

import torch

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    torch.manual_seed(0)
    return fomaml.meta_gradient(network, theta, batch, h)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
