"""A deliberately wrong algorithm: it trains on the tasks of the first block again and again."""

from metabench import (
    Algorithm,
    InnerLoop,
    Queries,
    adapted,
    one_copy_per_task,
    second_order_cost,
    support_and_query,
)


class Hyperparameters(InnerLoop):
    queries: Queries = None


def sample(tasks, h):
    """Draw the first block of the stream."""
    return support_and_query(tasks.stream.block(0), h)


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query)


ALGORITHM = Algorithm(Hyperparameters, second_order_cost, sample, meta_gradient)
