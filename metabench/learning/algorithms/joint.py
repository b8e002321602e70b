"""Joint training: one network for all tasks at once, without an inner loop.

    g = grad L(theta; points of all tasks)             fresh points, equally many of each task
    theta <- theta - meta_step_size * g

It is the baseline of meta-learning; the author of the Flux script calls it transfer. The network
fits the mean of all waves, which is zero, so adaptation has to start from scratch.

Reference: the pretrained baseline of Finn et al. 2017, arXiv:1703.03400, section 5.1.
"""

from __future__ import annotations

from torch import Tensor

from metabench.learning.algorithm import YARDSTICK, Algorithm, Batch, Cost
from metabench.learning.hyperparameters import OuterLoop, Shots
from metabench.learning.network import Network
from metabench.learning.tasks import Points, TaskBlock, TaskDistribution


class Hyperparameters(OuterLoop):
    """The defaults are those of the Flux script."""

    shots: Shots = 50


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count one gradient for each task."""
    return Cost(h.meta_batch_size, h.meta_batch_size, h.meta_batch_size * h.shots)


def sample(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Draw fresh points of each task and concatenate them over tasks."""
    points = tasks.support(h.shots)
    return (Points(points.x.flatten(2, 3), points.y.flatten(2, 3)),)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Return the gradient of the mean loss over the points of all tasks, at theta itself.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: Points of all tasks, ``(run, point, feature)``.
        h: Hyperparameters.

    Returns:
        The gradient, ``(run, P)``.
    """
    (points,) = batch
    _, gradient = network.loss_and_gradient(theta, *points)
    return gradient


def descend(network: Network, theta: Tensor, batches: Batch, step_size: float) -> Tensor:
    """Return theta after a step along `meta_gradient` for each batch.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batches: Points of all tasks, ``(iteration, run, point, feature)``.
        step_size: Step size.

    Returns:
        ``(run, P)``.
    """
    (points,) = batches
    return network.descend(theta, *points, step_size)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=sample,
    meta_gradient=meta_gradient,
    adaptation=YARDSTICK,
    descend=descend,
)
