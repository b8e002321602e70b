"""A deliberately wrong algorithm: the steps that it takes in one call are those of another."""

from dataclasses import replace

from metabench.learning.algorithms import joint


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    return joint.meta_gradient(network, theta, batch, h) / 2


ALGORITHM = replace(joint.ALGORITHM, meta_gradient=meta_gradient)
