"""The models of a study file: its sections, keys and defaults, and constraints between them."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from metabench.learning.fields import Count, Model, Positive
from metabench.learning.settings import (
    BankSize,
    BaselineProtocol,
    EvaluatedProtocol,
    GaussianProcess,
    MetaIterations,
    NetworkSettings,
    Showcase,
)
from metabench.learning.tasks import AnyDistribution, SineDistribution
from metabench.study.limits import (
    SEED_BLOCK,
    SEEDS,
    Algorithm,
    Name,
    PredictionsFile,
    StepSizes,
    Text,
)

RESERVED = ("reference", "redrawn", "literature", "benchmarks", "soak")
"""Folders under results that do not belong to a study."""

USUAL_ITERATIONS = 50_000
"""Meta-iterations of the Flux script, which cell names omit."""


def _free(study: str) -> str:
    if study in RESERVED:
        raise ValueError(
            f"study {study!r} is the name of another folder under results; choose a different name"
        )
    return study


class TrainingTasks(Model):
    """Task settings of a group of cells."""

    training_tasks: Count | None = None


class Length(Model):
    """Length of training of a group of cells."""

    meta_iterations: MetaIterations = USUAL_ITERATIONS


class CellGroup(Model):
    """Cells of one algorithm: the product of all keys that have lists.

    Every other key is a hyperparameter, which the algorithm's file declares.
    `metabench.study.cell_groups` checks hyperparameters and everything that may be a list.

    Args:
        algorithm: Name of an algorithm, or path of a file.
        meta_iterations: Number of outer updates (`Length`).
        equal_budget: An algorithm whose published cell's point-gradients these cells spend instead.
        budget: Point-gradients that each of these cells spends instead.
        trials: Number of cells drawn from the product; all if not given. A fixed seed determines
            the draw, and a larger number extends a smaller one.
        published: What distinguishes the original source's cell from the others of the group.
        network: Settings of the network that differ in these cells (`NetworkSettings`).
        tasks: Settings of the training tasks that differ in these cells (`TrainingTasks`).
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    algorithm: Algorithm
    meta_iterations: Any = None
    equal_budget: Algorithm | None = None
    budget: Annotated[int, Field(ge=1, le=10**15)] | None = None
    trials: Count | None = None
    published: dict[str, Any] | None = None
    network: dict[str, Any] = Field(default={})
    tasks: dict[str, Any] = Field(default={})

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters that are given: values, or lists of values."""
        return dict(self.model_extra or {})

    @property
    def length(self) -> dict[str, Any]:
        """The given length of training: a value, a list of values, or nothing."""
        return {} if self.meta_iterations is None else {"meta_iterations": self.meta_iterations}

    @model_validator(mode="after")
    def _budget(self) -> Self:
        lengths = {
            "meta_iterations": self.meta_iterations,
            "equal_budget": self.equal_budget,
            "budget": self.budget,
        }
        given = [name for name, value in lengths.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {', '.join(lengths)}, got {' and '.join(given)}")
        return self


class Predicted(Model):
    """Predictions that were made elsewhere, which stand beside the cells in every table.

    Args:
        predictions: The file (`metabench.records.predictions`).
        name: What they are called in tables and figures.
    """

    predictions: PredictionsFile
    name: Name


def _entry(given: Any) -> str:
    """Return which model an entry of `cells` is."""
    is_predicted = isinstance(given, Predicted) or (
        isinstance(given, dict) and "predictions" in given
    )
    return (Predicted if is_predicted else CellGroup).__name__


Entry = Annotated[
    Annotated[CellGroup, Tag(CellGroup.__name__)] | Annotated[Predicted, Tag(Predicted.__name__)],
    Discriminator(_entry),
]


class StudyProtocol(EvaluatedProtocol, BaselineProtocol):
    """A protocol in a study file."""


class Validation(Model):
    """The validation bank, and the validation curve in training."""

    tasks: BankSize = 100
    protocol: Text = "robustness"
    interval: Count = 1000


class Evaluation(Model):
    """The test bank and the step sizes of adaptation."""

    tasks: BankSize = 1000
    common_step_size: Positive = 0.02
    tuning_step_sizes: StepSizes = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)


class Statistics(Model):
    """Intervals."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=50, le=1_000_000)] = 1000


class StudyConfig(Model):
    """A study file.

    Args:
        trained_in: A study that trains the same cells with the same seeds. Its records are used;
            missing ones are trained there.
    """

    study: Annotated[Name, AfterValidator(_free)]
    source: Text
    trained_in: Name | None = None
    seeds: Annotated[int, Field(ge=1, le=SEEDS)]
    seed_block: Annotated[int, Field(ge=1, le=SEED_BLOCK)] = 10
    tasks: AnyDistribution = SineDistribution()
    network: NetworkSettings = NetworkSettings()
    cells: Annotated[tuple[Entry, ...], Field(min_length=1)]
    protocols: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()
    showcase: Showcase = Field(default={"amplitude": 4.0, "phase": 1.0})
    gaussian_process: GaussianProcess = GaussianProcess()
    statistics: Statistics = Statistics()

    @model_validator(mode="after")
    def _elsewhere(self) -> Self:
        if self.trained_in == self.study:
            raise ValueError(f"trained_in must be another study, got {self.trained_in!r}")
        return self
