"""A deliberately wrong algorithm: its query set is a part of its support set."""

from metabench import (
    Algorithm,
    InnerLoop,
    Points,
    Queries,
    adapted,
    one_copy_per_task,
    second_order_cost,
)


class Hyperparameters(InnerLoop):
    queries: Queries = None


def sample(tasks, h):
    """Draw points, and take the first of them for a query set too."""
    x, y = points = tasks.support(h.shots)
    return points, Points(x[..., :3, :], y[..., :3, :])


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query)


ALGORITHM = Algorithm(Hyperparameters, second_order_cost, sample, meta_gradient)
