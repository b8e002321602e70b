"""First-order MAML with its last mini-batch held out: Reptile's data, and MAML's question.

    phi_t = adapt(theta, first mini-batches of task t)    inner_steps steps of inner_step_size, one
    a mini-batch
    g     = mean_t grad L(phi_t; the last mini-batch)     whose points were not adapted to
    theta <- theta - meta_step_size * g

Here gradients are averaged over tasks, as Reptile averages its directions.

Reference: Nichol et al. 2018, arXiv:1803.02999, section 6.2, where it is FOMAML with a separate
    tail.
"""

from __future__ import annotations

from torch import Tensor

from metabench.learning.adaptation import adapted, mean_over_tasks, one_copy_per_task
from metabench.learning.algorithms.protocol import Batch, Cost, Hyperparameters, fits_the_grid
from metabench.learning.algorithms.protocol import descending as predictions
from metabench.learning.algorithms.protocol import initial_weights as begin
from metabench.learning.network import Network
from metabench.learning.tasks import TaskBlock, TaskDistribution

__all__ = ["begin", "cost", "meta_gradient", "predictions", "sample"]

HYPERPARAMETERS = ("inner_step_size", "inner_steps", "meta_batch_size", "meta_step_size", "shots")
OPTIONS = ("inner_optimizer",)
STEPS = ("own", "common")


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count a gradient for each mini-batch; raise ValueError where the grid is too small for that
    many.
    """
    fits_the_grid("fomaml_tail", "(inner_steps + 1)", h.inner_steps + 1, h.shots, tasks)
    gradients = h.meta_batch_size * (h.inner_steps + 1)
    return Cost(
        tasks=h.meta_batch_size, gradient_evaluations=gradients, point_gradients=gradients * h.shots
    )


def sample(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Shuffle each task's grid and cut it; the mini-batch axis comes second, after the iteration."""
    return (tasks.mini_batches(h.inner_steps + 1, h.shots),)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Average over tasks the gradient on the last mini-batch, taken at the parameters adapted to
    the others.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: mini-batches ``(step, run, task, shots, feature)``.
        h: Hyperparameters.

    Returns:
        The mean, ``(run, P)``.
    """
    (mini_batches,) = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    phi = adapted(
        network, copies, mini_batches.at(slice(-1)), h.inner_step_size, h.inner_optimizer
    )  # (run, task, P)
    _, gradient = network.loss_and_gradient(phi, *mini_batches.at(-1))
    return mean_over_tasks(gradient)
