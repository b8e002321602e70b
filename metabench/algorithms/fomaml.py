"""First-order MAML: differentiate AT the adapted parameters, not THROUGH the adaptation.

    phi_t = adapt(theta, support_t)                    inner_steps full-batch steps of inner_step_size
    g     = sum_t grad L(phi_t; query_t)               the query set is the grid
    theta <- theta - meta_step_size * g

The gradients of a meta-batch are SUMMED, as in the Flux script: a step of 0.01 on the sum of three tasks is one of
0.03 on their mean.

References: Finn et al. 2017, arXiv:1703.03400, section 5.2; Nichol et al. 2018, arXiv:1803.02999.
"""

from __future__ import annotations

from torch import Tensor

from metabench.adaptation import Points, adapted, one_copy_per_task
from metabench.algorithms.protocol import Batch, Cost, Hyperparameters
from metabench.network import Network
from metabench.tasks import SineDistribution, TaskStream

HYPERPARAMETERS = ("inner_step_size", "inner_steps", "meta_batch_size", "meta_step_size", "shots")


def cost(h: Hyperparameters, tasks: SineDistribution) -> Cost:
    """Count a gradient on the support set for each inner step of each task, and one on its query grid."""
    return Cost(
        tasks=h.meta_batch_size,
        gradient_evaluations=h.meta_batch_size * (h.inner_steps + 1),
        point_gradients=h.meta_batch_size * (h.inner_steps * h.shots + tasks.grid_points),
    )


def sample(stream: TaskStream, block: int, h: Hyperparameters) -> Batch:
    """Draw a support set of fresh points for each task; its query set is the grid."""
    waves = stream.waves(block)
    support, grid = stream.points(block, h.shots), stream.distribution.grid
    return Points(support, waves(support)), Points(grid.expand(len(support), *grid.shape), waves(grid))


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the query gradient taken at the adapted parameters.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: support ``(run, task, shots, feature)`` and query, x ``(point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, P)``.
    """
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, support.repeated(h.inner_steps), h.inner_step_size)  # (run, task, P)
    return network.summed_gradient(phi, *query)
