"""A deliberately wrong algorithm: it draws a number when it is imported."""

from dataclasses import replace

import numpy as np

from metabench import adapted, one_copy_per_task
from metabench.learning.algorithms import fomaml

FACTOR = 1 + np.random.default_rng().random()


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return FACTOR * network.summed_gradient(phi, *query)


ALGORITHM = replace(fomaml.ALGORITHM, meta_gradient=meta_gradient)
