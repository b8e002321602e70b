"""A deliberately wrong algorithm: it remembers how often it was called."""

from dataclasses import replace
from itertools import count

from metabench.learning.algorithms import fomaml

CALLS = count(1)


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    return fomaml.meta_gradient(network, theta, batch, h) / next(CALLS)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
