"""First-order MAML with a held-out last mini-batch: Reptile's data with MAML's objective.

    phi_t = adapt(theta, first mini-batches of task t)    inner_steps steps, one a mini-batch
    g     = mean_t grad L(phi_t; last mini-batch)         whose points are not in the others
    theta <- theta - meta_step_size * g

Gradients are averaged over tasks here, as Reptile averages its directions.

Reference: Nichol et al. 2018, arXiv:1803.02999, section 6.2: FOMAML with a separate tail.
"""

from __future__ import annotations

from torch import Tensor

from metabench.learning.adaptation import adapted, mean_over_tasks, one_copy_per_task
from metabench.learning.algorithm import Algorithm, Batch, Cost, require_mini_batches
from metabench.learning.hyperparameters import InnerLoop, InnerOptimizer, InnerSteps
from metabench.learning.network import Network
from metabench.learning.tasks import TaskBlock, TaskDistribution


class Hyperparameters(InnerLoop):
    """The defaults are those of Reptile: five mini-batches, the last of which is held out."""

    inner_steps: InnerSteps = 4
    inner_optimizer: InnerOptimizer = "sgd"


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count a gradient for each mini-batch; raise ValueError if the grid is too small."""
    require_mini_batches("(inner_steps + 1)", h.inner_steps + 1, h.shots, tasks)
    gradients = h.meta_batch_size * (h.inner_steps + 1)
    return Cost(
        tasks=h.meta_batch_size, gradient_evaluations=gradients, point_gradients=gradients * h.shots
    )


def sample(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Shuffle each task's grid and split it; the second axis is that of the mini-batches."""
    return (tasks.mini_batches(h.inner_steps + 1, h.shots),)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Average over tasks the gradient on the last mini-batch after adaptation to the others.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: Mini-batches, ``(step, run, task, shots, feature)``.
        h: Hyperparameters.

    Returns:
        The mean, ``(run, P)``.
    """
    (mini_batches,) = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    before_last = mini_batches.at(slice(-1))
    phi = adapted(network, copies, before_last, h.inner_step_size, h.inner_optimizer)
    _, gradient = network.loss_and_gradient(phi, *mini_batches.at(-1))
    return mean_over_tasks(gradient)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=sample,
    meta_gradient=meta_gradient,
)
