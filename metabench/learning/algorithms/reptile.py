"""Reptile: move the initialization towards the parameters that a few steps on one task lead to.

    phi_t = adapt(theta, mini-batches of task t)        inner_steps steps, one a mini-batch
    theta <- theta + meta_step_size * mean_t (phi_t - theta)

The points of a task are the query grid, shuffled and cut into disjoint mini-batches, as in the Flux
script: there is no split into support and query set.

Reference: Nichol et al. 2018, arXiv:1803.02999, algorithm 1 (serial) and 2 (batched).
"""

from __future__ import annotations

from torch import Tensor

from metabench.learning.adaptation import adapted, mean_over_tasks, one_copy_per_task
from metabench.learning.algorithm import Algorithm, Batch, Cost, require_mini_batches
from metabench.learning.hyperparameters import InnerLoop, InnerOptimizer, InnerSteps
from metabench.learning.network import Network
from metabench.learning.tasks import TaskBlock, TaskDistribution


class Hyperparameters(InnerLoop):
    """Defaults are those of the Flux script."""

    inner_steps: InnerSteps = 5
    inner_optimizer: InnerOptimizer = "sgd"


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count a gradient for each mini-batch; raise ValueError where the grid is too small."""
    require_mini_batches("inner_steps", h.inner_steps, h.shots, tasks)
    gradients = h.meta_batch_size * h.inner_steps
    return Cost(
        tasks=h.meta_batch_size, gradient_evaluations=gradients, point_gradients=gradients * h.shots
    )


def sample(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Shuffle each task's grid and cut it; the mini-batch axis is the second."""
    return (tasks.mini_batches(h.inner_steps, h.shots),)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Point from the adapted parameters back to the initialization.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: mini-batches ``(step, run, task, shots, feature)``.
        h: Hyperparameters.

    Returns:
        theta - mean_t phi_t, ``(run, P)``.
    """
    (mini_batches,) = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(
        network, copies, mini_batches, h.inner_step_size, h.inner_optimizer
    )  # (run, task, P)
    return theta - mean_over_tasks(phi)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=sample,
    meta_gradient=meta_gradient,
)
