"""A deliberately wrong algorithm: it predicts one number everywhere."""

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
    """Predict the mean of what is predicted."""
    found = descending(network, theta, question, h)
    return found.mean(-2, keepdim=True).expand(found.shape)


ALGORITHM = Algorithm(
    Hyperparameters,
    second_order_cost,
    support_and_query,
    meta_gradient,
    adaptation=Adaptation(predict),
)
