"""The models of the settings of jobs, which stand on their command lines as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from metabench.learning.fields import Count, Model, Positive
from metabench.learning.tasks import AnyDistribution
from metabench.study.limits import (
    Algorithm,
    BankSize,
    Context,
    MetaIterations,
    Name,
    Optimizer,
    Schedule,
    Steps,
)
from metabench.study.schema import (
    Adaptation,
    GaussianProcess,
    NetworkShape,
    Protocol,
    Showcase,
    StudyConfig,
    check_showcase,
    check_support,
)

STEPS = ("own", "common", "tuned")
"""Which step size adaptation uses: the algorithm's own, the study's common one, or one tuned for
each run.
"""

ROLES = ("published", "grid", "equal-budget")
"""Roles of a cell: the source's own values, another point of the grid, or the published values at
another's budget.
"""


class _Settings(Model):
    """Settings of a job, as `metabench.study.plans` spells them: in full, nothing left to a
    default.
    """

    @model_validator(mode="after")
    def _in_full(self) -> Self:
        for name, part in self:
            for key in (
                type(part).model_fields
                if isinstance(part, Model) and not isinstance(part, Knobs)
                else ()
            ):
                if key not in part.model_fields_set:
                    raise ValueError(f"missing key {key!r} in {name}")
        return self


class Knobs(Model):
    """The hyperparameters of a cell; one that has its default is not spelled."""

    meta_step_size: Positive = 0.0
    meta_batch_size: Count = 0
    shots: Count = 0
    inner_steps: Count = 0
    inner_step_size: Positive = 0.0
    queries: Count = 0
    context: Context = 0
    meta_optimizer: Optimizer = "sgd"
    meta_schedule: Schedule = "constant"
    inner_optimizer: Optimizer = "sgd"

    @model_validator(mode="after")
    def _none_at_its_default(self) -> Self:
        for name in sorted(self.model_fields_set):
            if (value := getattr(self, name)) == type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is {value} unless something else is spelled, so leave it out"
                )
        return self


class TrainValidation(Model):
    """The validation curve of a training job."""

    tasks: BankSize
    interval: Count
    protocol: Adaptation
    step_size: Positive | None


class TrainSettings(_Settings):
    """Settings of a training job."""

    study: Name
    algorithm: Algorithm
    hyperparameters: Knobs
    meta_iterations: MetaIterations
    tasks: AnyDistribution
    network: NetworkShape
    validation: TrainValidation

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_support(self.tasks, self.validation.protocol, "validation.protocol")
        return self


class _BankSettings(_Settings):
    """Settings of a job that measures on both banks."""

    study: Name
    tasks: AnyDistribution
    protocols: Annotated[Mapping[Name, Adaptation], Field(min_length=1)]
    test_tasks: BankSize
    validation_tasks: BankSize
    showcase: Showcase

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, protocol in self.protocols.items():
            check_support(self.tasks, protocol, f"protocols.{name}")
        check_showcase(self.tasks, self.showcase)
        return self


class EvaluateSettings(_BankSettings):
    """Settings of an evaluation job."""

    algorithm: Algorithm
    hyperparameters: Knobs
    network: NetworkShape
    steps: Annotated[list[Literal[STEPS]], Field(min_length=1)]  # type: ignore[valid-type]
    common_step_size: Positive
    tuning_step_sizes: Steps

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if ("tuned" in self.steps) != bool(self.tuning_step_sizes):
            raise ValueError("give tuning_step_sizes where steps name tuned, and nowhere else")
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
    """A cell of `metabench.study.plans`."""

    module: Algorithm
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
