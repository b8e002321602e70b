"""First-order MAML: differentiate AT the adapted parameters, not THROUGH the adaptation.

    phi_t = adapt(theta, support_t)                    inner_steps full-batch steps of
    inner_step_size
    g     = sum_t grad L(phi_t; query_t)               the query set is the grid, or fresh points
    theta <- theta - meta_step_size * g

The gradients of a meta-batch are SUMMED, as in the Flux script: a step of 0.01 on the sum of three
tasks is one of 0.03 on their mean.

References: Finn et al. 2017, arXiv:1703.03400, section 5.2; Nichol et al. 2018, arXiv:1803.02999.
"""

from __future__ import annotations

from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithms.protocol import Batch, Cost, Hyperparameters
from metabench.learning.algorithms.protocol import descending as predictions
from metabench.learning.algorithms.protocol import initial_weights as begin
from metabench.learning.algorithms.protocol import support_and_query as sample
from metabench.learning.network import Network
from metabench.learning.tasks import TaskDistribution

__all__ = ["begin", "cost", "meta_gradient", "predictions", "sample"]

HYPERPARAMETERS = ("inner_step_size", "inner_steps", "meta_batch_size", "meta_step_size", "shots")
OPTIONS = ("queries",)
STEPS = ("own", "common")


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count a gradient on the support set for each inner step of each task, and one on its query
    set.
    """
    queries = h.queries or tasks.grid_points
    return Cost(
        tasks=h.meta_batch_size,
        gradient_evaluations=h.meta_batch_size * (h.inner_steps + 1),
        point_gradients=h.meta_batch_size * (h.inner_steps * h.shots + queries),
    )


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the query gradient taken at the adapted parameters.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: support ``(run, task, shots, feature)`` and query, x ``(point, feature)`` or
            ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, P)``.
    """
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    inner_loop = *support.repeated(h.inner_steps), h.inner_step_size
    return network.summed_gradient(copies, *query, after=inner_loop)  # at phi_t, which is not kept
