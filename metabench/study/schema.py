"""The models of a study file: its sections, keys, defaults, and what must hold between them."""

from __future__ import annotations

import json
from inspect import signature
from math import ceil, floor
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from metabench.learning.fields import Count, Interval, Model, Number, Positive
from metabench.learning.tasks import AnyDistribution, SineDistribution, TaskDistribution
from metabench.study.limits import (
    JOBS,
    LARGEST,
    SEED_BLOCK,
    SEEDS,
    Algorithm,
    BankSize,
    Context,
    Grid,
    MetaIterations,
    Name,
    Optimizer,
    Schedule,
    Text,
)
from metabench.study.messages import shorten

Showcase = dict[str, Number]
"""Parameters of the task of the pictures."""

RESERVED = ("reference", "redrawn")
"""Folders under results that are no study's."""


class NetworkShape(Model):
    """The network."""

    hidden: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=8)
    ] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"
    initialization: Literal["uniform", "normal"] = "uniform"


class Published(Model):
    """The source's own values, which mark the published cell of a grid."""

    inner_step_size: Positive | None = None
    meta_step_size: Positive | None = None


class CellGroup(Model):
    """Cells of one algorithm: the product of its step sizes."""

    algorithm: Algorithm
    meta_iterations: MetaIterations | None = None
    equal_budget: Algorithm | None = None
    meta_batch_size: Count | None = None
    shots: Count | None = None
    inner_steps: Count | None = None
    inner_step_size: Grid | None = None
    meta_step_size: Grid | None = None
    queries: Count | None = None
    context: Context | None = None
    meta_optimizer: Optimizer | None = None
    meta_schedule: Schedule | None = None
    inner_optimizer: Optimizer | None = None
    published: Published | None = None

    @model_validator(mode="after")
    def _budget(self) -> Self:
        if (self.meta_iterations is None) == (self.equal_budget is None):
            raise ValueError("give either meta_iterations or equal_budget, and not both")
        return self


class Adaptation(Model):
    """What adaptation needs of a protocol."""

    shots: Annotated[int, Field(ge=1, le=1000)]
    support: Interval
    updates: Annotated[int, Field(ge=1, le=1000)]
    queries: Annotated[int, Field(ge=0, le=10_000)] = 0


class Protocol(Adaptation):
    """One evaluation setting."""

    gaussian_process_length_scale: Positive


class Validation(Model):
    """The validation bank, and the validation curve in training."""

    tasks: BankSize = 100
    protocol: Name = "robustness"
    interval: Count = 1000


class Evaluation(Model):
    """The test bank and the step sizes of adaptation."""

    tasks: BankSize = 1000
    common_step_size: Positive = 0.02
    tuning_step_sizes: Grid = Field(
        default=[0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064]
    )


class GaussianProcess(Model):
    """The RBF kernel of the baseline; length scales stand with the protocols."""

    variance: Positive = 4.25
    jitter: Positive = 1e-4

    @model_validator(mode="after")
    def _positive_definite(self) -> Self:
        if (
            self.jitter < 1e-9 * self.variance
        ):  # the kernel of 1000 points would have no Cholesky factor
            raise ValueError(
                f"jitter must be 1e-9 of the variance {self.variance:g} or more, got {self.jitter:g}"
            )
        return self


class Statistics(Model):
    """Intervals."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=50, le=1_000_000)] = 1000


class StudyConfig(Model):
    """A study file."""

    study: Name
    source: Text
    seeds: Annotated[int, Field(ge=1, le=SEEDS)]
    seed_block: Annotated[int, Field(ge=1, le=SEED_BLOCK)] = 10
    tasks: AnyDistribution = SineDistribution()
    network: NetworkShape = NetworkShape()
    cells: Annotated[tuple[CellGroup, ...], Field(min_length=1)]
    protocols: Annotated[dict[Name, Protocol], Field(min_length=1)]
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()
    showcase: Showcase = Field(default={"amplitude": 4.0, "phase": 1.0})
    gaussian_process: GaussianProcess = GaussianProcess()
    statistics: Statistics = Statistics()

    @model_validator(mode="after")
    def _free_name(self) -> Self:
        if self.study in RESERVED:
            raise ValueError(
                f"study {self.study!r} is a folder of its own under results; choose another name"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.validation.protocol not in self.protocols:
            names = ", ".join(self.protocols)
            raise ValueError(
                f"validation.protocol {self.validation.protocol!r} is not a protocol; choose from {names}"
            )
        for name, protocol in self.protocols.items():
            check_support(self.tasks, protocol, f"protocols.{name}")
        check_showcase(self.tasks, self.showcase)
        return self

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        points = sum(
            len(group.inner_step_size or "-") * len(group.meta_step_size or "-")
            for group in self.cells
        )
        if (jobs := points * ceil(self.seeds / self.seed_block)) > JOBS:
            raise ValueError(
                f"cells, seeds and seed_block make {jobs} training jobs; a study has {JOBS} at most"
            )
        if (size := len(json.dumps(self.model_dump(mode="json"), separators=(",", ":")))) > LARGEST:
            raise ValueError(
                f"a study has {LARGEST} characters at most when spelled in full, got {size}"
            )
        return self


def check_support(tasks: TaskDistribution, protocol: Adaptation, place: str) -> None:
    """Raise ValueError where support points may lie outside the domain, or no point of the grid
    among them.
    """
    (low, high), (first, last) = tasks.domain, protocol.support
    if first < low or last > high:
        raise ValueError(f"{place}.support must lie inside tasks.domain [{low:g}, {high:g}]")
    spacing = (high - low) / (tasks.grid_points - 1)
    if ceil((first - low) / spacing) > floor((last - low) / spacing):
        raise ValueError(
            f"{place}.support must hold a point of the grid, got [{first:g}, {last:g}]"
        )


def check_showcase(tasks: TaskDistribution, parameters: Showcase) -> None:
    """Raise ValueError where a family has no task with such parameters."""
    every = signature(tasks.one).parameters
    needed = {name for name, parameter in every.items() if parameter.default is parameter.empty}
    if not needed <= parameters.keys() <= every.keys():
        known = ", ".join(name if name in needed else f"{name} (or not)" for name in every)
        raise ValueError(
            f"showcase of family {tasks.family} takes {known}; got {shorten(list(parameters))}"
        )
