"""Reptile: move the initialization towards the parameters that a few steps on one task lead to.

    phi_t = adapt(theta, mini-batches of task t)       inner_steps steps of inner_step_size, one a mini-batch
    theta <- theta + meta_step_size * mean_t (phi_t - theta)

The points of a task are the query grid, shuffled and cut into disjoint mini-batches, as in the Flux script: there is
no split into support and query set.

Reference: Nichol et al. 2018, arXiv:1803.02999, algorithm 1 (serial) and 2 (batched).
"""

from __future__ import annotations

from torch import Tensor

from metabench.adaptation import Points, adapted, mean_over_tasks, one_copy_per_task
from metabench.algorithms.protocol import Batch, Cost, Hyperparameters
from metabench.network import Network
from metabench.tasks import SineDistribution, TaskStream

HYPERPARAMETERS = ("inner_step_size", "inner_steps", "meta_batch_size", "meta_step_size", "shots")


def cost(h: Hyperparameters, tasks: SineDistribution) -> Cost:
    """Count a gradient for each mini-batch.

    Raises:
        ValueError: The grid is too small for that many disjoint mini-batches.
    """
    if h.inner_steps * h.shots > tasks.grid_points:
        raise ValueError(
            f"reptile cuts the grid into disjoint mini-batches: inner_steps * shots must not exceed grid_points, "
            f"got {h.inner_steps} * {h.shots} > {tasks.grid_points}"
        )
    gradients = h.meta_batch_size * h.inner_steps
    return Cost(tasks=h.meta_batch_size, gradient_evaluations=gradients, point_gradients=gradients * h.shots)


def sample(stream: TaskStream, block: int, h: Hyperparameters) -> Batch:
    """Shuffle each task's grid and cut it; the mini-batch axis comes second, after the iteration."""
    grid, waves = stream.distribution.grid, stream.waves(block)
    order = stream.shuffles(block)[..., : h.inner_steps * h.shots]
    x = grid[order]  # (iteration, run, task, point, feature)
    return (Points(*(p.unflatten(-2, (h.inner_steps, h.shots)).movedim(-3, 1).contiguous() for p in (x, waves(x)))),)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Point from the adapted parameters back to the initialization: descending it moves towards them.

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
    phi = adapted(network, copies, mini_batches, h.inner_step_size)  # (run, task, P)
    return theta - mean_over_tasks(phi)
