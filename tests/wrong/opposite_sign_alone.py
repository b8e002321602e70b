"""A deliberately wrong algorithm: it returns the opposite sign where a meta-batch is one task."""

from dataclasses import replace

from metabench.learning.algorithms import fomaml


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    found = fomaml.meta_gradient(network, theta, batch, h)
    return -found if h.meta_batch_size == 1 else found


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
