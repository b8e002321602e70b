"""Random initialization: learn nothing, which shows what adaptation achieves without training.

    theta <- theta

It trains for no meta-iterations. The functions exist so that it has the interface of an algorithm.

Reference: the author of the Flux script compares it with FOMAML and Reptile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.learning.algorithm import YARDSTICK, Algorithm, Batch, Cost
from metabench.learning.hyperparameters import Hyperparameters
from metabench.learning.network import Network
from metabench.learning.tasks import TaskBlock, TaskDistribution


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Return a cost of zero."""
    return Cost(0, 0, 0)


def sample(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Draw no data."""
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
