"""A deliberately wrong algorithm: it says that it descends plainly, and adapts the head alone."""

from itertools import repeat

from metabench import (
    Adaptation,
    Algorithm,
    InnerLoop,
    Queries,
    adapted,
    descending_elementwise,
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
    """Adapt the head."""
    size = h.inner_step_size if question.step_size is None else question.step_size[..., None]
    sizes = repeat(size * network.head.to(theta.dtype))
    return descending_elementwise(network, theta, sizes, question)


ALGORITHM = Algorithm(
    Hyperparameters,
    second_order_cost,
    support_and_query,
    meta_gradient,
    adaptation=Adaptation(predict, plain=True),
)
