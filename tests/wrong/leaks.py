"""A deliberately wrong algorithm: what one run learns depends on its neighbours.

    theta <- theta - meta_step_size * g

Reference: none.
"""

from metabench.learning.adaptation import adapted, one_copy_per_task
from metabench.learning.algorithms.protocol import descending as predictions  # noqa: F401
from metabench.learning.algorithms.protocol import initial_weights as begin  # noqa: F401
from metabench.learning.algorithms.protocol import second_order_cost as cost  # noqa: F401
from metabench.learning.algorithms.protocol import support_and_query as sample  # noqa: F401

HYPERPARAMETERS = ("inner_step_size", "inner_steps", "meta_batch_size", "meta_step_size", "shots")
OPTIONS = ()
STEPS = ("own", "common")


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    gradient = network.summed_gradient(phi, *query)
    return gradient / gradient.norm()
