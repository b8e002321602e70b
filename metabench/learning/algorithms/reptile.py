"""Reptile: move the initialization towards the parameters that adaptation to a task reaches.

    phi_t = adapt(theta, mini-batches of task t)        inner_steps steps, one a mini-batch
    theta <- theta + meta_step_size * mean_t (phi_t - theta)

The points of a task are the query grid, shuffled and split into disjoint mini-batches, as in the
Flux script. There are no separate support and query sets.

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
    """The defaults are those of the Flux script."""

    inner_steps: InnerSteps = 5
    inner_optimizer: InnerOptimizer = "sgd"


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count a gradient for each mini-batch; raise ValueError if the grid is too small."""
    require_mini_batches("inner_steps", h.inner_steps, h.shots, tasks)
    gradients = h.meta_batch_size * h.inner_steps
    return Cost(
        tasks=h.meta_batch_size, gradient_evaluations=gradients, point_gradients=gradients * h.shots
    )


def sample(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Shuffle each task's grid and split it; the second axis is that of the mini-batches."""
    return (tasks.mini_batches(h.inner_steps, h.shots),)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Return the direction from the mean adapted parameters to the initialization.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: Mini-batches, ``(step, run, task, shots, feature)``.
        h: Hyperparameters.

    Returns:
        theta - mean_t phi_t, ``(run, P)``.
    """
    (mini_batches,) = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(network, copies, mini_batches, h.inner_step_size, h.inner_optimizer)
    return theta - mean_over_tasks(phi)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=sample,
    meta_gradient=meta_gradient,
)
