"""A deliberately wrong algorithm: it draws a number when it is imported."""

from dataclasses import replace

import numpy as np

from metabench.learning.algorithms import fomaml

FACTOR = 1 + np.random.default_rng().random()


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    return FACTOR * fomaml.meta_gradient(network, theta, batch, h)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
