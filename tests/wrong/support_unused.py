"""A deliberately wrong algorithm: it does not adapt before it takes the query gradient."""

from metabench import (
    Algorithm,
    InnerLoop,
    Queries,
    one_copy_per_task,
    second_order_cost,
    support_and_query,
)


class Hyperparameters(InnerLoop):
    queries: Queries = None


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    _, query = batch
    return network.summed_gradient(one_copy_per_task(theta, h.meta_batch_size), *query)


ALGORITHM = Algorithm(Hyperparameters, second_order_cost, support_and_query, meta_gradient)
