"""A deliberately wrong algorithm: it says that it costs less than it does."""

from metabench import (
    Algorithm,
    Cost,
    InnerLoop,
    Queries,
    adapted,
    one_copy_per_task,
    query_points,
    support_and_query,
)


class Hyperparameters(InnerLoop):
    queries: Queries = None


def cost(h, tasks):
    """Count the query gradients alone."""
    return Cost(h.meta_batch_size, h.meta_batch_size, h.meta_batch_size * query_points(h, tasks))


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query)


ALGORITHM = Algorithm(Hyperparameters, cost, support_and_query, meta_gradient)
