"""A deliberately wrong algorithm: it pulls theta to zero and learns nothing."""

from metabench import Algorithm, InnerLoop, Queries, second_order_cost, support_and_query


class Hyperparameters(InnerLoop):
    queries: Queries = None


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    return theta


ALGORITHM = Algorithm(Hyperparameters, second_order_cost, support_and_query, meta_gradient)
