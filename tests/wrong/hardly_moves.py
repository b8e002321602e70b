"""A deliberately wrong algorithm: its direction is too short for float32."""

from dataclasses import replace

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    return 1e-9 * fomaml.meta_gradient(network, theta, batch, h)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
