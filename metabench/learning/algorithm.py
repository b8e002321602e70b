"""The definition of an algorithm: a value with its hyperparameters and five pure functions.

    ALGORITHM = Algorithm(hyperparameters=Hyperparameters, cost=cost, sample=sample,
                          meta_gradient=meta_gradient)

The learned values are one flat vector ``(run, M)``, called theta everywhere else. Most algorithms
learn only an initialization ``(run, P)``. Some also learn step sizes or a second network. Only the
algorithm knows the layout of its vector.

Training calls `sample` for each block of meta-iterations and `meta_gradient` for each of its
meta-iterations. The outer optimizer, which is the same for all algorithms, descends along the
result. An algorithm that needs nothing between two steps may define a sixth function, `descend`,
which takes many in one call. Evaluation calls `adaptation.predict`. Most algorithms begin with the
initial weights of the seed and adapt by plain gradient descent, so these are the defaults.
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
from metabench.learning.predictive import Predictive
from metabench.learning.step_sizes import Maps, Pulled, Sizes, StepSize
from metabench.learning.tasks import Points, TaskBlock, TaskDistribution

Batch = tuple[Points, ...]
"""Sets of labelled points, in an order that the algorithm chooses. In the result of `sample`, the
first axis is the iteration. A point with the label nan is not a part of its set.
"""


class Cost(NamedTuple):
    """The cost of one meta-iteration of one run."""

    tasks: int
    gradient_evaluations: int
    """Gradients of a task's loss over one batch of points. A Hessian product counts as two."""
    point_gradients: int
    """Gradients of single points, which measure arithmetic. A Hessian product counts as two."""


class Question(NamedTuple):
    """The request to an algorithm at test time: adapt to the batches, then predict at x."""

    batches: Points
    """Support points of each update, ``(update, ..., shots, feature)``: the same for all."""
    x: Tensor
    """Query points, ``(point, feature)`` or ``(..., point, feature)``."""
    step_size: Tensor | None = None
    """Size of the updates, ``(...,)``; None selects the algorithm's own."""
    multiple: float = 1.0
    """Factor of the algorithm's own step sizes."""
    optimizer: str | None = None
    """Optimizer of the updates; None selects the algorithm's own."""
    only: Sequence[int] | None = None
    """The numbers of updates after which to predict, ascending; None selects all (`measured`)."""

    @property
    def measured(self) -> list[int]:
        """The numbers of updates after which to predict: 0, 1, 2, ..., or some of them."""
        return list(range(len(self.batches.x) + 1) if self.only is None else self.only)


class Adaptation(NamedTuple):
    """How an algorithm adapts at test time.

    Args:
        predict: Function of network, theta ``(..., M)``, question and hyperparameters. It returns
            predictions ``(update, ..., point, 1)`` after `Question.measured` updates.
        steps: Step rules that evaluation uses by default. `own` is the algorithm's: inner_step_size
            or learned step sizes, or none if adaptation takes no gradient steps. `common` is the
            study's. `tuned` is selected for each run on the validation bank.
        plain: Whether adaptation is gradient descent from theta, fully determined by a step size.
        distribution: Function of the arguments of `predict` that returns the distribution of labels
            after the last update; its mean is what `predict` returns. None if the algorithm
            predicts no variance.
    """

    predict: Callable[[Network, Tensor, Question, Any], Tensor]
    steps: tuple[str, ...] = ("own", "common")
    plain: bool = False
    distribution: Callable[[Network, Tensor, Question, Any], Predictive] | None = None

    def rules(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """Return the step rules that apply under a protocol.

        An adaptation without gradient steps has only the rule `own`. An algorithm without its own
        step size has no multiples of it. If no rule remains, the last of the default rules applies.

        Args:
            wanted: Step rules of the protocol; None selects the default rules.
        """
        if wanted is None or self.steps == ("own",):
            return self.steps
        possible = [rule for rule in wanted if "own" in self.steps or not rule.startswith("own")]
        return tuple(possible) or self.steps[-1:]


def descending(network: Network, theta: Tensor, question: Question, h: Any) -> Tensor:
    """Adapt by gradient descent from the initialization theta ``(..., P)``, and predict."""
    size: float | Tensor | None = question.step_size
    if size is None:
        size = question.multiple * h.inner_step_size
    rule = question.optimizer or str(getattr(h, "inner_optimizer", "sgd"))
    clipped = network.clipped(size, getattr(h, "inner_clip", None), theta.dtype)
    return _descended(network, theta, clipped, question, rule)


def descending_elementwise(
    network: Network, start: Tensor, sizes: Sizes | Maps | Pulled, question: Question
) -> Tensor:
    """Adapt by steps that differ from plain descent with one step size, and predict.

    Args:
        network: The network.
        start: Initial parameters, ``(..., P)``.
        sizes: Sizes of each layer or parameter, maps of gradients, or a size with a pull to the
            start.
        question: The request.
    """
    return _descended(network, start, sizes, question, question.optimizer or "sgd")


def _descended(
    network: Network, start: Tensor, size: StepSize, question: Question, rule: str
) -> Tensor:
    return adaptation.predictions(
        network, start, question.batches, size, question.x, rule, question.measured
    )


DESCENT = Adaptation(descending, plain=True)
"""Plain gradient descent from theta, as in training."""

YARDSTICK = Adaptation(descending, steps=("common", "tuned"), plain=True)
"""Plain gradient descent, for algorithms without an inner step size."""


def initial_weights(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, ``(run, P)``, float64: the same for every cell."""
    return torch.stack([network.initialize(seed) for seed in seeds])


@dataclass(frozen=True)
class Algorithm:
    """An algorithm.

    Args:
        hyperparameters: Class of its hyperparameters.
        cost: Returns the cost of a meta-iteration. It raises ValueError if hyperparameters
            contradict each other.
        sample: Returns the data of one block of meta-iterations, float64. The first axis of each
            tensor is the iteration.
        meta_gradient: Returns the direction that the outer update descends, ``(run, M)``, from
            theta ``(run, M)``, the data of a meta-iteration and the hyperparameters at its part of
            training (`Hyperparameters.at`).
        begin: Returns the initial values of each seed, ``(run, M)``, float64.
        adaptation: Adaptation at test time.
        descend: Returns theta ``(run, M)`` after a step of plain descent along `meta_gradient` for
            each iteration of data from `sample`, in one call and with the same bits. None if each
            step needs a call of its own. The last argument is the step size.
    """

    hyperparameters: type[Hyperparameters]
    cost: Callable[[Any, TaskDistribution], Cost]
    sample: Callable[[TaskBlock, Any], Batch]
    meta_gradient: Callable[[Network, Tensor, Batch, Any], Tensor]
    begin: Callable[[Network, tuple[int, ...], Any], Tensor] = initial_weights
    adaptation: Adaptation = DESCENT
    descend: Callable[[Network, Tensor, Batch, float], Tensor] | None = None


def support_and_query(tasks: TaskBlock, h: Any) -> Batch:
    """Draw a support set of fresh points for each task, and its query set."""
    return tasks.support(h.shots), tasks.query(h.queries)


def varied_support_and_query(tasks: TaskBlock, h: Any) -> Batch:
    """Draw a support set of random size and interval for each task, and its query set."""
    return tasks.varied_support(h.least_shots, h.shots, h.least_width), tasks.query(h.queries)


def query_points(h: Any, tasks: TaskDistribution) -> int:
    """Return the number of points of a query set: fresh points, or those of the grid."""
    return h.queries or tasks.grid_size


def second_order_cost(h: Any, tasks: TaskDistribution) -> Cost:
    """Count a gradient and a Hessian product for each inner step, and a query gradient.

    Algorithms with the hyperparameter `second_order` may leave out the Hessian product.
    """
    # A Hessian product counts as two gradients, so each inner step counts as three.
    on_support = h.inner_steps * (3 if getattr(h, "second_order", True) else 1)
    return Cost(
        tasks=h.meta_batch_size,
        gradient_evaluations=h.meta_batch_size * (on_support + 1),
        point_gradients=h.meta_batch_size * (on_support * h.shots + query_points(h, tasks)),
    )


def whole_task_cost(h: Any, tasks: TaskDistribution) -> Cost:
    """Count, for each task, one gradient over its support and query points together."""
    points = h.meta_batch_size * (h.shots + query_points(h, tasks))
    return Cost(h.meta_batch_size, h.meta_batch_size, point_gradients=points)


def varied_support_cost(h: Any, tasks: TaskDistribution) -> Cost:
    """Count as `whole_task_cost` does, with support sets of the largest size.

    Raises:
        ValueError: The least size exceeds the largest.
    """
    if h.least_shots > h.shots:
        raise ValueError(f"least_shots must not exceed shots, got {h.least_shots} and {h.shots}")
    return whole_task_cost(h, tasks)


def require_mini_batches(name: str, batches: int, shots: int, tasks: TaskDistribution) -> None:
    """Raise ValueError if the query grid is too small for this many disjoint mini-batches."""
    if batches * shots > tasks.grid_size:
        raise ValueError(
            f"mini-batches are disjoint parts of the query grid: {name} * shots must not exceed "
            f"its {tasks.grid_size} points, got {batches} * {shots}"
        )


def before_and_after(predicted: Callable[[bool], Tensor], question: Question) -> Tensor:
    """Return the predictions of an algorithm with a single update; later updates repeat it.

    Args:
        predicted: Returns predictions that see all support points, or none.
        question: The request.
    """
    found = {seen: predicted(seen) for seen in {n > 0 for n in question.measured}}
    return torch.stack([found[n > 0] for n in question.measured])
