"""The models of the settings of jobs, which stand on their command lines as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from metabench.config.fields import Algorithm, BankSize, Count, MetaIterations, Model, Name, Positive, Steps
from metabench.config.study import (
    Adaptation,
    GaussianProcess,
    NetworkShape,
    Protocol,
    Showcase,
    StudyConfig,
    Tasks,
    check_support,
)

ROLES = ("published", "grid", "equal-budget")
"""Roles of a cell: the source's own values, another point of the grid, or the published values at another's budget."""

StepOrNone = Annotated[float, Field(ge=0, le=1e6)]
CountOrNone = Annotated[int, Field(ge=0, le=10_000_000)]


class _Settings(Model):
    """Settings of a job, as `metabench.plans` spells them: in full, nothing left to a default."""

    @model_validator(mode="after")
    def _in_full(self) -> Self:
        for name, part in self:
            for key in type(part).model_fields if isinstance(part, Model) else ():
                if key not in part.model_fields_set:
                    raise ValueError(f"missing key {key!r} in {name}")
        return self


class Knobs(Model):
    """The hyperparameters of a cell; one that its algorithm does not read is 0."""

    meta_step_size: StepOrNone
    meta_batch_size: CountOrNone
    shots: CountOrNone
    inner_steps: CountOrNone
    inner_step_size: StepOrNone


class TrainValidation(Model):
    """The validation curve of a training job."""

    tasks: BankSize
    interval: Count
    protocol: Adaptation
    step_size: Positive


class TrainSettings(_Settings):
    """Settings of a training job."""

    study: Name
    algorithm: Algorithm
    hyperparameters: Knobs
    meta_iterations: MetaIterations
    tasks: Tasks
    network: NetworkShape
    validation: TrainValidation

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_support(self.tasks, self.validation.protocol, "validation.protocol")
        return self


class _BankSettings(_Settings):
    """Settings of a job that measures on both banks."""

    study: Name
    tasks: Tasks
    protocols: Annotated[Mapping[Name, Adaptation], Field(min_length=1)]
    test_tasks: BankSize
    validation_tasks: BankSize
    showcase: Showcase

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, protocol in self.protocols.items():
            check_support(self.tasks, protocol, f"protocols.{name}")
        return self


class EvaluateSettings(_BankSettings):
    """Settings of an evaluation job."""

    algorithm: Algorithm
    network: NetworkShape
    own_step_size: Positive | None
    common_step_size: Positive
    tuning_step_sizes: Steps

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if (self.own_step_size is None) != bool(self.tuning_step_sizes):
            raise ValueError("give either own_step_size or tuning_step_sizes, and not both")
        return self


class BaselineSettings(_BankSettings):
    """Settings of the baselines' job."""

    protocols: Annotated[Mapping[Name, Protocol], Field(min_length=1)]
    gaussian_process: GaussianProcess


class Spent(Model):
    """What one meta-iteration of one run spends."""

    tasks: Annotated[int, Field(ge=0)]
    gradient_evaluations: Annotated[int, Field(ge=0)]
    point_gradients: Annotated[int, Field(ge=0)]


class SpelledCell(Model):
    """A cell of `metabench.plans`."""

    algorithm: Algorithm
    hyperparameters: Knobs
    meta_iterations: MetaIterations
    role: Literal[ROLES]  # type: ignore[valid-type]
    cost: Spent


class TrackSettings(Model):
    """Settings of a job that mirrors a cell's runs: the cell, and of the study what they show."""

    cell: SpelledCell
    study: StudyConfig


SETTINGS: dict[str, type[Model]] = {
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "baselines": BaselineSettings,
    "track": TrackSettings,
    "study": StudyConfig,
}
"""The form of what stands on a command line as JSON."""
