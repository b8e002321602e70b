"""A deliberately wrong algorithm: it adapts to the first support point alone."""

from metabench import (
    Adaptation,
    Algorithm,
    InnerLoop,
    Points,
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
    """Adapt to one point."""
    x, y = question.batches
    first = Points(x[..., :1, :], y[..., :1, :])
    return descending(network, theta, question._replace(batches=first), h)


ALGORITHM = Algorithm(
    Hyperparameters,
    second_order_cost,
    support_and_query,
    meta_gradient,
    adaptation=Adaptation(predict),
)
