"""A deliberately wrong algorithm: its output layer never learns."""

from dataclasses import replace

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    gradient = fomaml.meta_gradient(network, theta, batch, h)
    return gradient.masked_fill(network.head, 0.0)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
