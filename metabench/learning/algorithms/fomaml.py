"""First-order MAML: differentiate AT the adapted parameters, not THROUGH the adaptation.

    phi_t = adapt(theta, support_t)             inner_steps full-batch steps of inner_step_size
    g     = sum_t grad L(phi_t; query_t)        the query set is the grid, or fresh points
    theta <- theta - meta_step_size * g

The gradients of a meta-batch are SUMMED, as in the Flux script. A step of 0.01 on the sum of three
gradients is a step of 0.03 on their mean.

References: Finn et al. 2017, arXiv:1703.03400, section 5.2; Nichol et al. 2018, arXiv:1803.02999.
"""

from __future__ import annotations

from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import Algorithm, Batch, Cost, query_points, support_and_query
from metabench.learning.hyperparameters import InnerLoop, MetaBatchSize, Queries
from metabench.learning.network import Network
from metabench.learning.tasks import TaskDistribution


class Hyperparameters(InnerLoop):
    """The defaults are those of the Flux script."""

    meta_batch_size: MetaBatchSize = 3
    queries: Queries = None


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count a gradient for each inner step of each task, and one on its query set."""
    queries = query_points(h, tasks)
    return Cost(
        tasks=h.meta_batch_size,
        gradient_evaluations=h.meta_batch_size * (h.inner_steps + 1),
        point_gradients=h.meta_batch_size * (h.inner_steps * h.shots + queries),
    )


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the query gradient at the adapted parameters.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, P)``.
    """
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    inner_loop = *support.repeated(h.inner_steps), h.inner_step_size
    # At phi_t, which is never stored: the kernel descends and differentiates one copy at a time.
    return network.summed_gradient(copies, *query, after=inner_loop)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
)
