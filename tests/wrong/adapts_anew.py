"""A deliberately wrong algorithm: it predicts with the same network, whatever was learned."""

from metabench import (
    Adaptation,
    Algorithm,
    InnerLoop,
    Queries,
    adapted,
    descending,
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
    return network.summed_gradient(phi, *query)


def predict(network, theta, question, h):
    """Adapt the weights of seed 0."""
    start = network.initialize(0).to(theta.dtype).expand(theta.shape)
    return descending(network, start, question, h)


ALGORITHM = Algorithm(
    Hyperparameters,
    second_order_cost,
    support_and_query,
    meta_gradient,
    adaptation=Adaptation(predict),
)
