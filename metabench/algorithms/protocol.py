"""What an algorithm is: a module of three pure functions and the names of the hyperparameters it reads.

Training calls `sample` once for each block of meta-iterations and `meta_gradient` once for each of them, and then
descends: theta <- theta - meta_step_size * gradient, for every algorithm alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from metabench.adaptation import Points
from metabench.network import Network
from metabench.tasks import SineDistribution, TaskStream

Batch = tuple[Points, ...]
"""Labelled points, in an order of the algorithm's own; `sample` puts the iteration axis first."""


@dataclass(frozen=True)
class Hyperparameters:
    """Every knob of every algorithm; one that an algorithm does not read stays 0.

    Args:
        meta_step_size: beta (epsilon for Reptile), the size of the outer update.
        meta_batch_size: T, tasks a meta-iteration.
        shots: K, points of each inner step (of each outer step, for joint training).
        inner_steps: Gradient steps on each task.
        inner_step_size: alpha, the size of those steps.
    """

    meta_step_size: float = 0.0
    meta_batch_size: int = 0
    shots: int = 0
    inner_steps: int = 0
    inner_step_size: float = 0.0


class Cost(NamedTuple):
    """What one meta-iteration of one run spends."""

    tasks: int
    gradient_evaluations: int
    """Gradients of a task's loss, each over one batch of points."""
    point_gradients: int
    """Points whose gradient was computed: the measure of arithmetic."""


class Algorithm(Protocol):
    """An algorithm module."""

    HYPERPARAMETERS: tuple[str, ...]
    """The fields of `Hyperparameters` that it reads; all of them must be given."""

    def cost(self, h: Hyperparameters, tasks: SineDistribution) -> Cost:
        """Return what a meta-iteration spends; raise ValueError if the hyperparameters contradict each other."""

    def sample(self, stream: TaskStream, block: int, h: Hyperparameters) -> Batch:
        """Return the data of one block of meta-iterations, float64; the first axis of each tensor is the iteration."""

    def meta_gradient(self, network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
        """Return what the outer update descends, ``(run, P)``, from theta ``(run, P)`` and a meta-iteration's data."""
