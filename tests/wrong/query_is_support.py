"""A deliberately wrong algorithm: its query set is its support set."""

from metabench import Algorithm, InnerLoop, Queries, adapted, one_copy_per_task, second_order_cost


class Hyperparameters(InnerLoop):
    queries: Queries = 5


def sample(tasks, h):
    """Draw one set of points, and call it by two names."""
    points = tasks.support(h.shots)
    return points, points


def meta_gradient(network, theta, batch, h):
    """Return a gradient."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    return network.summed_gradient(phi, *query)


ALGORITHM = Algorithm(Hyperparameters, second_order_cost, sample, meta_gradient)
