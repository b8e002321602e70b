"""A deliberately wrong algorithm: its direction is much too long."""

from dataclasses import replace

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    return 1e9 * fomaml.meta_gradient(network, theta, batch, h)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
