"""A right algorithm: FOMAML with a direction no longer than 1, as many implementations clip it."""

from metabench import Algorithm, Cost, InnerLoop, Queries, adapted, one_copy_per_task, query_points
from metabench import support_and_query as sample


class Hyperparameters(InnerLoop):
    """Those of FOMAML."""

    queries: Queries = None


def cost(h, tasks):
    """Count a gradient for each inner step, and one on the query set."""
    points = h.inner_steps * h.shots + query_points(h, tasks)
    return Cost(
        h.meta_batch_size, h.meta_batch_size * (h.inner_steps + 1), h.meta_batch_size * points
    )


def meta_gradient(network, theta, batch, h):
    """Return a gradient, cut to a length of 1."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    gradient = network.summed_gradient(phi, *query)
    return gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=1.0)


ALGORITHM = Algorithm(Hyperparameters, cost, sample, meta_gradient)
