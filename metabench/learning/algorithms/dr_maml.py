"""DR-MAML: MAML on the tasks of each meta-batch on which the adapted network is worst.

    l_t  = L(phi_t; query_t)                         phi_t adapted as in MAML
    tail = the K tasks with the largest l_t          K = (1 - risk_level) T, rounded, at least 1
    g    = T / K sum over the tail of d/dtheta L(phi_t; query_t)
    theta <- theta - meta_step_size * g

The first stage screens all T = meta_batch_size tasks and takes no gradient for theta; the second is
MAML on the tail. The mean of the K largest losses estimates the conditional value at risk of the
query loss: the expected loss of the worst 1 - risk_level of all tasks. MAML is the special case
risk_level = 0, where nothing is screened. As its sum over tasks is T times a mean, so is this, and
the same outer step has the same length.

TR-MAML (Collins et al. 2020, arXiv:2002.04766) minimizes the largest loss over a finite set of
training tasks by ascending a weight for each of them. A risk_level near 1 keeps only the worst task
of a meta-batch, but remembers no task: this is not TR-MAML.

Reference: Wang et al. 2023, arXiv:2310.00708, where risk_level is alpha.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import (
    Algorithm,
    Batch,
    Cost,
    query_points,
    second_order_cost,
    support_and_query,
)
from metabench.learning.hyperparameters import InnerLoop, MetaBatchSize, Queries, Word
from metabench.learning.network import Network
from metabench.learning.tasks import Points, TaskDistribution

RiskLevel = Annotated[
    float,
    Field(ge=0, lt=1, description="Share of the tasks of a meta-batch that is left out."),
    Word("risk"),
]


class Hyperparameters(InnerLoop):
    """The defaults are those of MAML, with a larger meta-batch, since its tail is small."""

    meta_batch_size: MetaBatchSize = 10
    queries: Queries = None
    risk_level: RiskLevel = 0.7


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count MAML on the tail, and an adaptation and a query loss for each task if one is left out.

    A loss counts as a third of its gradient, since the backward pass is twice as long.
    """
    tail = second_order_cost(h.model_copy(update={"meta_batch_size": _kept(h)}), tasks)
    screened = h.meta_batch_size if _kept(h) < h.meta_batch_size else 0
    thirds = screened * (3 * h.inner_steps * h.shots + query_points(h, tasks))
    return Cost(
        tasks=h.meta_batch_size,
        gradient_evaluations=tail.gradient_evaluations + screened * h.inner_steps,
        point_gradients=tail.point_gradients + -(-thirds // 3),
    )


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Average over the tail the gradient of the query loss after adaptation, times the tasks.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The mean over the tail times `meta_batch_size`, ``(run, P)``.
    """
    kept = _kept(h)
    support, query = batch
    if kept < h.meta_batch_size:
        worst = _losses(network, theta, batch, h).topk(kept).indices
        worst = worst.sort().values  # sums have the order of the tasks
        support, query = (_of_tasks(points, worst) for points in batch)
    copies = one_copy_per_task(theta, kept)
    descent = *support.repeated(h.inner_steps), h.inner_step_size
    along_theta, _ = network.gradient_through(copies, descent, *query)
    return along_theta * (h.meta_batch_size / kept)


def _kept(h: Hyperparameters) -> int:
    """Return K, the number of tasks of the tail."""
    return max(1, round((1 - h.risk_level) * h.meta_batch_size))


def _losses(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Return the query loss of each task after adaptation, ``(run, task)``."""
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = network.descend(copies, *support.repeated(h.inner_steps), h.inner_step_size)
    return network.loss(phi, *query)


def _of_tasks(points: Points, tasks: Tensor) -> Points:
    """Return the points of the given tasks of each run, ``(run, task)``."""
    runs = torch.arange(len(tasks))[:, None]
    of_all = points.x.dim() < points.y.dim()  # a grid has no axis of tasks
    return Points(points.x if of_all else points.x[runs, tasks], points.y[runs, tasks])


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
)
