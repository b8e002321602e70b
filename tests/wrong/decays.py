"""A deliberately wrong algorithm: it pulls theta to zero and learns nothing."""

from dataclasses import replace

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    return theta


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
