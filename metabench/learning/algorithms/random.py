"""Random initialization: learn nothing, so that what adaptation alone achieves can be seen.

    theta <- theta

It runs for no meta-iterations; the functions stand here so that it is an algorithm like any other.

Reference: the Flux script's author shows it beside FOMAML and Reptile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.learning.algorithms.protocol import Batch, Cost, Hyperparameters
from metabench.learning.algorithms.protocol import descending as predictions
from metabench.learning.algorithms.protocol import initial_weights as begin
from metabench.learning.network import Network
from metabench.learning.tasks import TaskBlock, TaskDistribution

__all__ = ["begin", "cost", "meta_gradient", "predictions", "sample"]

HYPERPARAMETERS = ()
OPTIONS = ()
STEPS = ("common", "tuned")


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Spend nothing."""
    return Cost(0, 0, 0)


def sample(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Draw nothing."""
    return ()


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Return a zero direction, ``(run, P)``."""
    return torch.zeros_like(theta)
