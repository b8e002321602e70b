"""A deliberately wrong algorithm: it returns float64, whatever it is given."""

from dataclasses import replace

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    return fomaml.meta_gradient(network, theta, batch, h).double()


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
