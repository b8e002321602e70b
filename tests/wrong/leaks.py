"""A deliberately wrong algorithm: what one run learns depends on its neighbours."""

from dataclasses import replace

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    gradient = fomaml.meta_gradient(network, theta, batch, h)
    return gradient / gradient.norm()


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
