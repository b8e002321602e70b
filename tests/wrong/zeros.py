"""A deliberately wrong algorithm: it returns zeros."""

from dataclasses import replace

import torch

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    return torch.zeros_like(theta)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
