"""A deliberately wrong algorithm: it fails with any other optimizer of the outer loop."""

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


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return {"sgd": 1.0}[h.meta_optimizer] * network.summed_gradient(phi, *query)


ALGORITHM = Algorithm(Hyperparameters, second_order_cost, support_and_query, meta_gradient)
