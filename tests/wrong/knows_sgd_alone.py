"""A deliberately wrong algorithm: it fails with any other optimizer of the outer loop."""

from dataclasses import replace

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    return {"sgd": 1.0}[h.meta_optimizer] * fomaml.meta_gradient(network, theta, batch, h)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
