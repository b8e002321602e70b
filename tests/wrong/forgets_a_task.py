"""A deliberately wrong algorithm: the last task takes the place of the first."""

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
    """Draw data, and put the last task in place of the first."""
    order = [-1, *range(1, h.meta_batch_size)]
    (x, y), query = support_and_query(tasks, h)
    return Points(x[:, :, order], y[:, :, order]), Points(query.x, query.y[:, :, order])


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query)


ALGORITHM = Algorithm(Hyperparameters, second_order_cost, sample, meta_gradient)
