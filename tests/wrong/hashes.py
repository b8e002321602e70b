"""A deliberately wrong algorithm: its direction depends on the hash of a word."""

from dataclasses import replace

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    factor = 1 + hash("word") % 1000 / 1000
    return factor * fomaml.meta_gradient(network, theta, batch, h)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
