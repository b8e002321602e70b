"""Checks of what an algorithm declares: hyperparameters, cost and initial values."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from metabench.check_algorithm.subject import OUTER, SEEDS, Subject, must, same
from metabench.learning import algorithms
from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import Cost
from metabench.learning.engine.heads import MetaBatch
from metabench.learning.engine.reference import Reference
from metabench.learning.hyperparameters import Hyperparameters, InnerLoop
from metabench.learning.network import Network
from metabench.learning.settings import NAMED_STEPS
from metabench.study.schema import CellGroup

OF_TRAINING = {*InnerLoop.model_fields, "queries", "context", "inner_optimizer"} - set(OUTER)
"""Hyperparameters on which training must depend, by their meaning."""


def declares_its_hyperparameters(s: Subject) -> None:
    """Its hyperparameters are a subclass of Hyperparameters, and each has a description."""
    model: Any = s.algorithm.hyperparameters
    must(
        isinstance(model, type) and issubclass(model, Hyperparameters),
        f"hyperparameters must be a subclass of metabench.Hyperparameters, got {model!r:.60}",
    )
    for name, info in model.model_fields.items():
        kind = info.annotation.__name__ if isinstance(info.annotation, type) else info.annotation
        must(
            bool(info.description),
            f"{name} needs a description: Annotated[{kind}, Field(description=...)]",
        )
        must(
            name not in CellGroup.model_fields,
            f"{name} already has a meaning in a study file; choose a different name",
        )
    steps: Any = s.algorithm.adaptation.steps
    must(
        isinstance(steps, tuple) and len(steps) > 0 and set(steps) <= set(NAMED_STEPS),
        f"steps must be some of {', '.join(NAMED_STEPS)}; got {steps!r}",
    )


def says_what_it_does(s: Subject) -> None:
    """Its file begins with a docstring that says what it does."""
    text = algorithms.module(s.name_or_file).__doc__ or ""
    must(bool(text.strip()), "the file must begin with a docstring that says what it does")


class Counting(Reference):
    """The torch engine, counting the gradients that are taken, and their points."""

    gradients: ClassVar[int] = 0
    points: ClassVar[int] = 0
    """Counts of all networks since `counted` began: an algorithm may create its own."""

    def pulled_back(self, theta: Tensor, x: Tensor, hidden: Tensor, cotangent: Tensor) -> Tensor:
        """Count the points of a part of a gradient."""
        Counting.points += prod(theta.shape[:-1]) * x.shape[-2]
        return super().pulled_back(theta, x, hidden, cotangent)

    def loss_and_gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Count one gradient per network."""
        self._count(1, theta, x)
        return super().loss_and_gradient(theta, x, y)

    def gradient_through_head(
        self, theta: Tensor, tasks: MetaBatch, step_size: float, steps: int
    ) -> Tensor:
        """Count a gradient and a Hessian product per step, as if all layers were adapted."""
        (_, y), (_, labels) = tasks
        copies = one_copy_per_task(theta, y.shape[1])
        self._count(3 * steps, copies, y)
        self._count(1, copies, labels)
        return Reference(self.network).gradient_through_head(theta, tasks, step_size, steps)

    def gradient_through_ridge(
        self, theta: Tensor, weight: Tensor, tasks: MetaBatch
    ) -> tuple[Tensor, Tensor]:
        """Count one gradient per task, over support and query set together."""
        (_, y), (_, labels) = tasks
        self._count(1, one_copy_per_task(theta, y.shape[1]), torch.cat([y, labels], dim=-2))
        return Reference(self.network).gradient_through_ridge(theta, weight, tasks)

    def hessian_product(self, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Count two gradients per network."""
        self._count(2, theta, x)
        return super().hessian_product(theta, x, y, v)

    def _count(self, gradients: int, theta: Tensor, x: Tensor) -> None:
        networks = gradients * prod(theta.shape[:-1])
        Counting.gradients += networks
        Counting.points += networks * x.shape[-2]


class Counted(Network):
    """A network whose engine counts."""

    def _kernel(self, theta: Tensor, *others: object) -> None:
        return None

    @property
    def _reference(self) -> Counting:
        return Counting(self)


def counted(s: Subject) -> tuple[int, int]:
    """Return the numbers of gradients and points of a meta-iteration of one run."""
    Counting.gradients = Counting.points = 0
    network = Counted(s.network.widths, s.network.activation)
    s.gradient(s.begin((0,)), s.batch((0,)), network)
    return Counting.gradients, Counting.points


def counts_its_cost(s: Subject) -> None:
    """Its cost is that of a meta-batch, and at least the gradients that it takes."""
    cost: Any = s.algorithm.cost(s.h, s.tasks)
    must(
        isinstance(cost, Cost) and set(map(type, cost)) == {int} and min(cost) >= 0,
        f"cost must be a Cost of whole numbers, got {cost!r}",
    )
    must(
        cost.tasks == s.meta_batch_size,
        f"a meta-iteration has {s.meta_batch_size} tasks (meta_batch_size); cost says {cost.tasks}",
    )
    gradients, points = counted(s)
    must(
        gradients <= cost.gradient_evaluations and points <= cost.point_gradients,
        f"cost says {cost.gradient_evaluations} gradients and {cost.point_gradients} "
        f"point-gradients a meta-iteration; counted were {gradients} and {points} "
        f"(a Hessian-vector product is two)",
    )


def begins_with_its_seed(s: Subject) -> None:
    """`begin` gives each seed finite float64 numbers of its own, whatever other seeds there are."""
    theta = s.algorithm.begin(s.network, SEEDS, s.h)
    must(
        theta.dim() == 2 and len(theta) == len(SEEDS),
        f"begin must return (run, M), a row for each seed; got {tuple(theta.shape)}",
    )
    must(theta.dtype == torch.float64, f"begin must return float64; got {theta.dtype}")
    must(bool(theta.isfinite().all()), "begin must return finite numbers")
    for row, seed in zip(theta, SEEDS, strict=True):
        alone = s.algorithm.begin(s.network, (seed,), s.h)[0]
        must(same(alone, row), "a seed must start the same, alone or with others")
    must(len(theta.unique(dim=0)) == len(SEEDS), "begin must give each seed its own numbers")


def uses_each_hyperparameter(s: Subject) -> None:
    """Each hyperparameter changes the direction, or at least what is predicted."""
    x = s.tasks.grid.double()
    support = s.held_out(dtype=torch.float64)
    moments = 0.0, 0.5  # a hyperparameter may say what changes during training
    directions = [s.direction(done=done) for done in moments]
    predicted = s.predict(s.begin(dtype=torch.float64), support, x)
    for name in s.h.model_dump().keys() - set(OUTER):
        for other in s.others(name):
            others = [other.direction(done=done) for done in moments]
            if not all(map(same, others, directions)):
                continue
            value = getattr(other.h, name)
            must(
                name not in OF_TRAINING,
                f"{name} changes nothing in training: "
                f"the direction is the same with {getattr(s.h, name)} and {value}",
            )
            must(
                not same(other.predict(other.begin(dtype=torch.float64), support, x), predicted),
                f"{name} changes nothing: "
                f"direction and predictions are the same with {getattr(s.h, name)} and {value}",
            )


def leaves_the_outer_step_to_the_outer_loop(s: Subject) -> None:
    """The direction does not depend on size, optimizer and schedule of the outer step."""
    direction = s.direction()
    for name in s.h.model_dump().keys() & set(OUTER):
        for other in s.others(name):
            must(
                same(other.direction(), direction),
                f"meta_gradient depends on {name}, which the outer loop applies to its result",
            )
