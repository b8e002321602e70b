"""A deliberately wrong algorithm: it returns the opposite sign."""

from dataclasses import replace

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    return -fomaml.meta_gradient(network, theta, batch, h)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
