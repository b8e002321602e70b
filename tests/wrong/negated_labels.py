"""A deliberately wrong algorithm: it learns the negative of each task."""

from metabench import (
    Algorithm,
    InnerLoop,
    Points,
    Queries,
    adapted,
    one_copy_per_task,
    second_order_cost,
    support_and_query,
)


class Hyperparameters(InnerLoop):
    queries: Queries = None


def sample(tasks, h):
    """Draw data, and change the sign of the labels."""
    return tuple(Points(x, -y) for x, y in support_and_query(tasks, h))


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query)


ALGORITHM = Algorithm(Hyperparameters, second_order_cost, sample, meta_gradient)
