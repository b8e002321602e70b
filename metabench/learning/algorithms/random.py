"""Random initialization: learn nothing, so that what adaptation alone achieves can be seen.

    theta <- theta

It runs for no meta-iterations; the functions stand here so that it is an algorithm like any other.

Reference: the Flux script's author shows it beside FOMAML and Reptile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.learning.algorithm import YARDSTICK, Algorithm, Batch, Cost
from metabench.learning.hyperparameters import Hyperparameters
from metabench.learning.network import Network
from metabench.learning.tasks import TaskBlock, TaskDistribution


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Spend nothing."""
    return Cost(0, 0, 0)


def sample(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Draw nothing."""
    return ()


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Return a zero direction, ``(run, P)``."""
    return torch.zeros_like(theta)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=sample,
    meta_gradient=meta_gradient,
    adaptation=YARDSTICK,
)
