"""What an algorithm is: a module of five pure functions and the names of the hyperparameters it
reads.

What it learns is one flat vector ``(run, M)``, called theta everywhere else: an initialization
``(run, P)`` for most, and for some of them step sizes, or a second network, beside it. Only the
algorithm knows what is where. Training calls `sample` once for each block of meta-iterations and
`meta_gradient` once for each of them, and the outer optimizer descends along the result, for every
algorithm alike; evaluation calls `predictions`.

Most algorithms begin with the initial weights of their seed and adapt by plain gradient descent:
they import `initial_weights` as `begin`, and `descending` as `predictions`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from metabench.learning.adaptation import adapted, predictions
from metabench.learning.network import Network
from metabench.learning.tasks import Points, TaskBlock, TaskDistribution

Batch = tuple[Points, ...]
"""Labelled points, in an order of the algorithm's own; `sample` puts the iteration axis first."""


@dataclass(frozen=True)
class Hyperparameters:
    """Every knob of every algorithm; one that an algorithm does not read keeps its default.

    Args:
        meta_step_size: beta (epsilon for Reptile), the size of the outer update.
        meta_batch_size: T, tasks a meta-iteration.
        shots: K, points of each inner step (of each outer step, for joint training).
        inner_steps: Gradient steps on each task.
        inner_step_size: alpha, the size of those steps; where step sizes are learned, what they
            begin with.
        queries: Q, fresh query points of each task; 0 stands for the grid.
        context: C, numbers that adapt or that describe a task (CAVIA, conditional neural process).
        meta_optimizer: A key of `metabench.learning.optimizers.OPTIMIZERS`.
        meta_schedule: A key of `metabench.learning.optimizers.SCHEDULES`.
        inner_optimizer: A key of `metabench.learning.optimizers.INNER_OPTIMIZERS`.
    """

    meta_step_size: float = 0.0
    meta_batch_size: int = 0
    shots: int = 0
    inner_steps: int = 0
    inner_step_size: float = 0.0
    queries: int = 0
    context: int = 0
    meta_optimizer: str = "sgd"
    meta_schedule: str = "constant"
    inner_optimizer: str = "sgd"

    @property
    def given(self) -> dict[str, Any]:
        """Those that differ from their defaults: what a cell is called after, and what settings
        spell.
        """
        return {
            f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default
        }


OUTER_OPTIONS = ("meta_optimizer", "meta_schedule")
"""Options of the outer loop, for every algorithm that has a meta_step_size."""


class Cost(NamedTuple):
    """What one meta-iteration of one run spends."""

    tasks: int
    gradient_evaluations: int
    """Gradients of a task's loss, each over one batch of points; a Hessian-vector product counts as
    two.
    """
    point_gradients: int
    """Points whose gradient was computed, those of a Hessian-vector product twice: the measure of
    arithmetic.
    """


class Algorithm(Protocol):
    """An algorithm module."""

    HYPERPARAMETERS: tuple[str, ...]
    """The fields of `Hyperparameters` that must be given."""

    OPTIONS: tuple[str, ...]
    """Those that may be given besides; `OUTER_OPTIONS` may be wherever there is a meta_step_size.
    """

    STEPS: tuple[str, ...]
    """The step sizes that evaluation adapts with: `own` is the algorithm's (inner_step_size, or the
    learned ones, or none where adaptation takes no gradient steps), `common` the study's, `tuned`
    chosen by each run."""

    def cost(self, h: Hyperparameters, tasks: TaskDistribution) -> Cost:
        """Return what a meta-iteration spends; raise ValueError if the hyperparameters contradict
        each other.
        """

    def begin(self, network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
        """Return what each seed begins with, ``(run, M)``, float64."""

    def sample(self, tasks: TaskBlock, h: Hyperparameters) -> Batch:
        """Return the data of one block of meta-iterations, float64; the first axis of each tensor
        is the iteration.
        """

    def meta_gradient(
        self, network: Network, theta: Tensor, batch: Batch, h: Hyperparameters
    ) -> Tensor:
        """Return what the outer update descends, ``(run, M)``, from theta ``(run, M)`` and a
        meta-iteration's data.
        """

    def predictions(
        self,
        network: Network,
        theta: Tensor,
        batches: Points,
        x: Tensor,
        h: Hyperparameters,
        step_size: Tensor | None = None,
        every: bool = True,
    ) -> Tensor:
        """Adapt to support points and predict.

        Args:
            network: The network.
            theta: What was learned, ``(..., M)``.
            batches: Support points of each update, ``(update, ..., shots, feature)``, all the same.
            x: Where to predict, ``(point, feature)`` or ``(..., point, feature)``.
            h: Hyperparameters.
            step_size: Of the updates, ``(...,)``; None stands for the algorithm's own.
            every: Whether before and after each update, or after the last alone.

        Returns:
            ``(update, ..., point, 1)``, or ``(..., point, 1)``.
        """


def initial_weights(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, ``(run, P)``, float64: the same for every algorithm
    and cell.
    """
    return torch.stack([network.initialize(seed) for seed in seeds])


def descending(
    network: Network,
    theta: Tensor,
    batches: Points,
    x: Tensor,
    h: Hyperparameters,
    step_size: Tensor | None = None,
    every: bool = True,
) -> Tensor:
    """Adapt by gradient descent from the initialization theta ``(..., P)``, and predict; see
    `Algorithm`.
    """
    size = h.inner_step_size if step_size is None else step_size
    if every:
        return predictions(network, theta, batches, size, x, h.inner_optimizer)
    return network.predict(adapted(network, theta, batches, size, h.inner_optimizer), x)


def fits_the_grid(
    algorithm: str, name: str, batches: int, shots: int, tasks: TaskDistribution
) -> None:
    """Raise ValueError where the query grid is too small for disjoint mini-batches of so many
    shots.
    """
    if batches * shots > tasks.grid_points:
        raise ValueError(
            f"{algorithm} cuts the grid into disjoint mini-batches: {name} * shots must not exceed grid_points, "
            f"got {batches} * {shots} > {tasks.grid_points}"
        )


def support_and_query(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Draw a support set of fresh points for each task, and its query set: the grid, or other fresh
    points.
    """
    return tasks.support(h.shots), tasks.query(h.queries)


def second_order_cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count, for each task, a gradient and a Hessian-vector product an inner step, and a gradient
    on its query set.
    """
    return Cost(
        tasks=h.meta_batch_size,
        gradient_evaluations=h.meta_batch_size * (3 * h.inner_steps + 1),
        point_gradients=h.meta_batch_size
        * (3 * h.inner_steps * h.shots + (h.queries or tasks.grid_points)),
    )


def whole_task_cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count, for each task, one gradient over its support and query points together."""
    points = h.shots + (h.queries or tasks.grid_points)
    return Cost(
        h.meta_batch_size,
        gradient_evaluations=h.meta_batch_size,
        point_gradients=h.meta_batch_size * points,
    )


def before_and_after(before: Tensor, after: Tensor, updates: int, every: bool) -> Tensor:
    """Return predictions of an algorithm that needs one update: before it, and from then on after
    it.
    """
    return torch.stack([before, *[after] * updates]) if every else after
