"""What an algorithm is: a value that names its hyperparameters and five pure functions.

    ALGORITHM = Algorithm(hyperparameters=Hyperparameters, cost=cost, sample=sample,
                          meta_gradient=meta_gradient)

What it learns is one flat vector ``(run, M)``, called theta everywhere else. For most it is an
initialization ``(run, P)``; for some, step sizes or a second network stand beside it. Only the
algorithm knows what is where.

Training calls `sample` once for each block of meta-iterations and `meta_gradient` once for each of
them. The outer optimizer descends along the result, for every algorithm alike. Evaluation calls the
`predict` of its `adaptation`. Most algorithms begin with the initial weights of their seed and adapt
by plain gradient descent, so these are the defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metabench.learning import adaptation
from metabench.learning.hyperparameters import Hyperparameters
from metabench.learning.network import Network
from metabench.learning.step_sizes import Sizes
from metabench.learning.tasks import Points, TaskBlock, TaskDistribution

Batch = tuple[Points, ...]
"""Labelled points in an order of the algorithm's own; `sample` puts the iteration axis first."""


class Cost(NamedTuple):
    """What one meta-iteration of one run spends."""

    tasks: int
    gradient_evaluations: int
    """Gradients of a task's loss, each over one batch of points; a Hessian product counts as two."""
    point_gradients: int
    """Points whose gradient was computed, a Hessian product's twice: the measure of arithmetic."""


class Question(NamedTuple):
    """What an algorithm is asked at test time: adapt to these points, then predict there."""

    batches: Points
    """Support points of each update, ``(update, ..., shots, feature)``, all the same."""
    x: Tensor
    """Where to predict, ``(point, feature)`` or ``(..., point, feature)``."""
    step_size: Tensor | None = None
    """Size of the updates, ``(...,)``; None stands for the algorithm's own."""
    multiple: float = 1.0
    """Factor of the algorithm's own step sizes."""
    optimizer: str | None = None
    """Rule of the updates; None stands for the algorithm's own."""
    every: bool = True
    """Whether to predict before and after each update, or after the last alone."""


class Adaptation(NamedTuple):
    """How an algorithm adapts at test time.

    Args:
        predict: From network, theta ``(..., M)``, question and hyperparameters to predictions,
            ``(update, ..., point, 1)``, or ``(..., point, 1)`` after the last update alone.
        steps: The step sizes that it is evaluated with unless a protocol says otherwise. `own` is
            the algorithm's: inner_step_size, or learned ones, or none where adaptation takes no
            gradient steps. `common` is the study's. `tuned` is chosen by each run on validation.
        plain: Whether it is gradient descent from theta, so that a step size says everything.
    """

    predict: Callable[[Network, Tensor, Question, Any], Tensor]
    steps: tuple[str, ...] = ("own", "common")
    plain: bool = False

    def rules(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """Return the step rules that apply under a protocol.

        What takes no gradient steps has none but `own`, and what has no step size of its own no
        multiple of it. Where nothing remains, the usual rules stand.

        Args:
            wanted: Step rules of the protocol; None stands for the usual ones.
        """
        if wanted is None or self.steps == ("own",):
            return self.steps
        possible = [rule for rule in wanted if "own" in self.steps or not rule.startswith("own")]
        return tuple(possible) or self.steps


def descending(network: Network, theta: Tensor, question: Question, h: Any) -> Tensor:
    """Adapt by gradient descent from the initialization theta ``(..., P)``, and predict."""
    size: float | Tensor | None = question.step_size
    if size is None:
        size = question.multiple * h.inner_step_size
    rule = question.optimizer or str(getattr(h, "inner_optimizer", "sgd"))
    clipped = network.clipped(size, getattr(h, "inner_clip", None), theta.dtype)
    return _descended(network, theta, clipped, question, rule)


def descending_elementwise(
    network: Network, start: Tensor, sizes: Sizes, question: Question
) -> Tensor:
    """Adapt with a step size of its own for each layer or parameter, and predict.

    Args:
        network: The network.
        start: Where to begin, ``(..., P)``.
        sizes: The step sizes.
        question: What is asked.
    """
    return _descended(network, start, sizes, question, question.optimizer or "sgd")


def _descended(
    network: Network, start: Tensor, size: float | Tensor | Sizes, question: Question, rule: str
) -> Tensor:
    return adaptation.predictions(
        network, start, question.batches, size, question.x, rule, question.every
    )


DESCENT = Adaptation(descending, plain=True)
"""Plain gradient descent from theta, as in training."""

YARDSTICK = Adaptation(descending, steps=("common", "tuned"), plain=True)
"""Plain gradient descent for what has no inner step size of its own."""


def initial_weights(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, ``(run, P)``, float64: the same for every cell."""
    return torch.stack([network.initialize(seed) for seed in seeds])


@dataclass(frozen=True)
class Algorithm:
    """An algorithm.

    Args:
        hyperparameters: What it reads.
        cost: What a meta-iteration spends. It raises ValueError if hyperparameters contradict each
            other.
        sample: The data of one block of meta-iterations, float64. The first axis of each tensor is
            the iteration.
        meta_gradient: What the outer update descends, ``(run, M)``, from theta ``(run, M)`` and
            the data of a meta-iteration.
        begin: What each seed begins with, ``(run, M)``, float64.
        adaptation: How it adapts at test time.
    """

    hyperparameters: type[Hyperparameters]
    cost: Callable[[Any, TaskDistribution], Cost]
    sample: Callable[[TaskBlock, Any], Batch]
    meta_gradient: Callable[[Network, Tensor, Batch, Any], Tensor]
    begin: Callable[[Network, tuple[int, ...], Any], Tensor] = initial_weights
    adaptation: Adaptation = DESCENT


def support_and_query(tasks: TaskBlock, h: Any) -> Batch:
    """Draw a support set of fresh points for each task, and its query set."""
    return tasks.support(h.shots), tasks.query(h.queries)


def query_points(h: Any, tasks: TaskDistribution) -> int:
    """Return how many points a query set has: fresh ones, or those of the grid."""
    return h.queries or tasks.grid_size


def second_order_cost(h: Any, tasks: TaskDistribution) -> Cost:
    """Count a gradient and a Hessian product an inner step, and a gradient on the query set."""
    points = 3 * h.inner_steps * h.shots + query_points(h, tasks)
    return Cost(
        tasks=h.meta_batch_size,
        gradient_evaluations=h.meta_batch_size * (3 * h.inner_steps + 1),
        point_gradients=h.meta_batch_size * points,
    )


def whole_task_cost(h: Any, tasks: TaskDistribution) -> Cost:
    """Count, for each task, one gradient over its support and query points together."""
    points = h.meta_batch_size * (h.shots + query_points(h, tasks))
    return Cost(h.meta_batch_size, h.meta_batch_size, point_gradients=points)


def require_mini_batches(name: str, batches: int, shots: int, tasks: TaskDistribution) -> None:
    """Raise ValueError where the query grid is too small for so many disjoint mini-batches."""
    if batches * shots > tasks.grid_size:
        raise ValueError(
            f"mini-batches are disjoint parts of the query grid: {name} * shots must not exceed "
            f"its {tasks.grid_size} points, got {batches} * {shots}"
        )


def before_and_after(before: Tensor, after: Tensor, question: Question) -> Tensor:
    """Return predictions of an algorithm that needs one update: every later one is the first."""
    if not question.every:
        return after
    return torch.stack([before, *[after] * len(question.batches.x)])
