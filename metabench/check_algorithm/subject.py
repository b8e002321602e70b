"""The subject of the checks: an algorithm with hyperparameters, a network and tasks, all small."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, get_args

import torch
from pydantic import ValidationError, create_model
from torch import Tensor

from metabench.learning import algorithms, training
from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import Algorithm, Batch, Question
from metabench.learning.hyperparameters import Hyperparameters, OuterLoop
from metabench.learning.network import Network
from metabench.learning.predictive import Predictive
from metabench.learning.settings import NetworkSettings, Protocol, TrainSettings, Validation
from metabench.learning.tasks import (
    AnyDistribution,
    Bank,
    Points,
    SineDistribution,
    TaskBlock,
    TaskStream,
)

SEEDS = (4, 0, 9)
"""The seeds of the runs."""

ITERATION = 7
"""The meta-iteration whose data most checks look at."""

UPDATES = 3
"""Updates of an adaptation."""

STEP_SIZE = 0.02
"""Size of the updates of algorithms without their own step size."""

LAYERS, TASKS = NetworkSettings(hidden=(16, 16)), SineDistribution()
"""The default network and tasks."""

EXAMPLE: dict[str, Any] = {
    "meta_step_size": 0.001,
    "meta_batch_size": 3,
    "shots": 5,
    "least_shots": 5,
    "inner_steps": 2,
    "inner_step_size": 0.02,
    "context": 3,
    "inner_clip": 1.0,
}
"""Hyperparameters to try, if an algorithm has them; others have their defaults."""

OUTER = ("meta_step_size", "meta_optimizer", "meta_schedule", "meta_clip")
"""Hyperparameters that only the outer loop reads."""

GENERIC = (0.1, 1, 2, 7, 0.7, "", None)
"""Values to try for an unknown hyperparameter."""


class NotHeldError(Exception):
    """A check that does not hold, in plain words."""


def must(holds: bool, otherwise: str) -> None:
    """Raise NotHeldError unless a condition holds."""
    if not holds:
        raise NotHeldError(otherwise)


def same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have the same bits, NaN included."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a.nan_to_num(nan=1e30), b.nan_to_num(nan=1e30))


@dataclass(frozen=True)
class Subject:
    """An algorithm with everything needed to try it.

    Args:
        name_or_file: Its name or its file.
        layers: The network, whose inputs are those of the tasks.
        tasks: The distribution of tasks.
        overrides: Hyperparameters that differ from those of the example.
    """

    name_or_file: str
    layers: NetworkSettings = LAYERS
    tasks: AnyDistribution = TASKS
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, **overrides: Any) -> Subject:
        """Return the algorithm with changed hyperparameters, as far as it has and accepts them."""
        found = self
        for name in overrides.keys() & self.algorithm.hyperparameters.model_fields.keys():
            other = replace(found, overrides={**found.overrides, name: overrides[name]})
            found = other if other._is_possible() else found
        return found

    @cached_property
    def network(self) -> Network:
        """The network."""
        return self.layers.build(self.tasks.features)

    @cached_property
    def algorithm(self) -> Algorithm:
        """The algorithm itself."""
        return algorithms.load(self.name_or_file)

    @cached_property
    def h(self) -> Hyperparameters:
        """Its hyperparameters."""
        model = self.algorithm.hyperparameters
        return model.model_validate({**_example(model), **self.overrides})

    @property
    def trains(self) -> bool:
        """Whether it learns anything."""
        return issubclass(self.algorithm.hyperparameters, OuterLoop)

    @property
    def meta_batch_size(self) -> int:
        """Tasks of a meta-iteration."""
        return self.h.meta_batch_size if isinstance(self.h, OuterLoop) else 0

    @property
    def takes_given_steps(self) -> bool:
        """Whether it can adapt with a given step size."""
        return set(self.algorithm.adaptation.steps) != {"own"}

    @property
    def takes_steps(self) -> bool:
        """Whether it declares that it adapts in steps of some size."""
        return self.takes_given_steps or hasattr(self.h, "inner_step_size")

    @property
    def predicts_variance(self) -> bool:
        """Whether it predicts the variance of labels, so that its loss may be a log density."""
        return self.algorithm.adaptation.distribution is not None

    @property
    def has_own_step(self) -> bool:
        """Whether it can adapt with its own step size."""
        return "own" in self.algorithm.adaptation.steps

    def begin(self, seeds: tuple[int, ...] = SEEDS, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the initial values of the seeds, ``(run, M)``."""
        return self.algorithm.begin(self.network, seeds, self.h).to(dtype)

    def stream(self, seeds: tuple[int, ...] = SEEDS) -> TaskStream:
        """Return the training tasks."""
        return TaskStream(self.tasks, seeds, self.meta_batch_size)

    def sample(self, block: TaskBlock | None = None) -> Batch:
        """Return the data of a block, by default of the first."""
        return self.algorithm.sample(block or self.stream().block(0), self.h)

    def batch(
        self,
        seeds: tuple[int, ...] = SEEDS,
        dtype: torch.dtype = torch.float32,
        iteration: int = ITERATION,
    ) -> Batch:
        """Return the data of one meta-iteration."""
        return one_iteration(self.sample(self.stream(seeds).block(0)), dtype, iteration)

    def gradient(
        self, theta: Tensor, batch: Batch, network: Network | None = None, done: float = 0.0
    ) -> Tensor:
        """Return the meta-gradient when a fraction of training is done."""
        h = self.h.at(done)
        return self.algorithm.meta_gradient(network or self.network, theta, batch, h)

    def direction(self, dtype: torch.dtype = torch.float64, done: float = 0.0) -> Tensor:
        """Return the meta-gradient at the initial values when a fraction of training is done."""
        return self.gradient(self.begin(dtype=dtype), self.batch(dtype=dtype), done=done)

    def predict(self, theta: Tensor, support: Points, x: Tensor, **more: Any) -> Tensor:
        """Adapt copies of theta ``(run, M)`` to tasks, and predict; arguments as in `asked`."""
        copies, question = self.asked(theta, support, x, **more)
        return self.algorithm.adaptation.predict(self.network, copies, question, self.h)

    def distribution(self, theta: Tensor, support: Points, x: Tensor, **more: Any) -> Predictive:
        """Adapt copies of theta to tasks, and predict the distribution of labels; see `asked`."""
        predict = self.algorithm.adaptation.distribution
        assert predict is not None
        copies, question = self.asked(theta, support, x, **more)
        return predict(self.network, copies, question, self.h)

    def asked(
        self,
        theta: Tensor,
        support: Points,
        x: Tensor,
        *,
        step_size: float | Tensor | None = None,
        multiple: float = 1.0,
        updates: int = UPDATES,
        only: Sequence[int] | None = None,
    ) -> tuple[Tensor, Question]:
        """Return copies of theta ``(run, M)`` for each task, and the question to them.

        Args:
            theta: The learned values.
            support: Support points of each task, ``(task, shots, feature)``, or ``(run, task,
                shots, feature)``.
            x: The x to predict at.
            step_size: Size of the updates, or that of each run ``(run,)``; by default its own, or
                `STEP_SIZE` if it has none.
            multiple: Factor on its own step size.
            updates: Number of updates.
            only: Numbers of updates after which to predict; by default all.
        """
        copies = one_copy_per_task(theta, support.x.shape[-3])
        if step_size is None and not self.has_own_step:
            step_size = STEP_SIZE * multiple
        size = None
        if step_size is not None:
            of_runs = torch.as_tensor(step_size, dtype=theta.dtype).expand(len(theta))
            size = of_runs[:, None].expand(copies.shape[:-1])
        return copies, Question(support.repeated(updates), x, size, multiple, only=only)

    def held_out(
        self, tasks: int = 4, shots: int = 5, dtype: torch.dtype = torch.float32
    ) -> Points:
        """Return support points of held-out tasks, ``(task, shots, feature)``."""
        bank = Bank(0, "validation-bank", self.tasks, tasks)
        return bank.support(shots, self.tasks.domain).to(dtype)

    def settings(self, meta_iterations: int, interval: int, tasks: int = 4) -> TrainSettings:
        """Return the settings of a short training."""
        protocol = Protocol(  # as in training, so that what is learned there helps
            shots=getattr(self.h, "shots", 5),
            support=self.tasks.domain,
            updates=getattr(self.h, "inner_steps", 1),
        )
        return TrainSettings(
            algorithm=self.name_or_file,
            hyperparameters=self.h,
            meta_iterations=meta_iterations,
            tasks=self.tasks,
            network=self.layers,
            validation=Validation(
                tasks=tasks,
                interval=interval,
                protocol=protocol,
                step=None if self.has_own_step else STEP_SIZE,
            ),
        )

    def train(self, meta_iterations: int, interval: int = 4, tasks: int = 4, **more: Any) -> State:
        """Train for a short time."""
        settings = self.settings(meta_iterations, interval, tasks)
        return training.train(settings, SEEDS, self.algorithm, **more)

    def others(self, name: str) -> Iterator[Subject]:
        """Yield the algorithm with different values of one hyperparameter.

        These are all other values of a choice, and one other value of a number.
        """
        hyperparameters = self.h.model_dump()
        chosen = list(_choices(self.algorithm.hyperparameters.model_fields[name].annotation))
        for value in chosen or _numbers(hyperparameters[name]):
            other = replace(self, overrides={**hyperparameters, name: value})
            if other._is_possible() and getattr(other.h, name) != hyperparameters[name]:
                yield other
                if not chosen:
                    return

    def _is_possible(self) -> bool:
        """Return whether the algorithm accepts its hyperparameters."""
        try:
            self.algorithm.cost(self.h, self.tasks)
        except ValueError:  # which a ValidationError is, too
            return False
        return True


State = training.State


def one_iteration(
    block: Batch, dtype: torch.dtype = torch.float64, iteration: int = ITERATION
) -> Batch:
    """Return the data of one meta-iteration of a block: copies, which may be changed."""
    plain = torch.contiguous_format
    found = (Points(*points).at(iteration).to(dtype) for points in block)
    return tuple(Points(*(part.clone(memory_format=plain) for part in pair)) for pair in found)


def _example(model: type[Hyperparameters]) -> dict[str, Any]:
    """Return hyperparameters to try: those of the example, else defaults, else accepted values."""
    found = {}
    for name, info in model.model_fields.items():
        declared: dict[str, Any] = {name: (info.annotation, info)}
        one = create_model("One", **declared)
        default = () if info.is_required() else (info.get_default(call_default_factory=True),)
        known = (EXAMPLE[name],) if name in EXAMPLE else ()
        for value in (*known, *default, *_choices(info.annotation), *GENERIC):
            try:
                found[name] = getattr(one.model_validate({name: value}), name)
            except ValidationError:
                continue
            break
    return found


def _choices(annotation: Any) -> Iterator[Any]:
    """Yield the values of a type that lists them."""
    if annotation is bool:
        yield from (False, True)
    for part in get_args(annotation):
        if isinstance(part, str | int):
            yield part
        else:
            yield from _choices(part)


def _numbers(value: Any) -> Iterator[Any]:
    """Yield values that differ from one that is not of a short list."""
    if isinstance(value, int | float):
        yield from (2 * value, value + 1, value / 2, value - 1)
    if isinstance(value, tuple) and value:
        yield from ((*value, value[-1]), value[:-1])
    yield from reversed(GENERIC[:-1])
