"""Joint training: one network for all tasks at once, without an inner loop.

    g = grad L(theta; points of all tasks)             fresh points of new tasks, as many of each
    theta <- theta - meta_step_size * g

The yardstick of learning to learn (the Flux script's author calls it transfer): a network that fits
the mean wave, which is zero, so that adaptation has to start from scratch.

Reference: the pretrained baseline of Finn et al. 2017, arXiv:1703.03400, section 5.1.
"""

from __future__ import annotations

from torch import Tensor

from metabench.learning.algorithm import YARDSTICK, Algorithm, Batch, Cost
from metabench.learning.hyperparameters import OuterLoop, Shots
from metabench.learning.network import Network
from metabench.learning.tasks import Points, TaskBlock, TaskDistribution


class Hyperparameters(OuterLoop):
    """Defaults are those of the Flux script."""

    shots: Shots = 50


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count one gradient a task."""
    return Cost(h.meta_batch_size, h.meta_batch_size, h.meta_batch_size * h.shots)


def sample(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Draw fresh points of each task and put those of all tasks together."""
    points = tasks.support(h.shots)
    return (Points(points.x.flatten(2, 3), points.y.flatten(2, 3)),)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Return the gradient at the initialization itself, of the mean over the points of all tasks.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: points of all tasks, ``(run, point, feature)``.
        h: Hyperparameters.

    Returns:
        The gradient, ``(run, P)``.
    """
    (points,) = batch
    _, gradient = network.loss_and_gradient(theta, *points)
    return gradient


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=sample,
    meta_gradient=meta_gradient,
    adaptation=YARDSTICK,
)
