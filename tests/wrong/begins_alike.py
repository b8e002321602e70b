"""A deliberately wrong algorithm: every seed begins with the weights of seed 0."""

from metabench import (
    Algorithm,
    InnerLoop,
    Queries,
    adapted,
    initial_weights,
    one_copy_per_task,
    second_order_cost,
    support_and_query,
)


class Hyperparameters(InnerLoop):
    queries: Queries = None


def begin(network, seeds, h):
    """Return the weights of one seed for all."""
    return initial_weights(network, (0,) * len(seeds), h)


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query)


ALGORITHM = Algorithm(Hyperparameters, second_order_cost, support_and_query, meta_gradient, begin)
