"""The settings of training and evaluation, from which the core computes directly.

A study file is parsed into these types. They stay unchanged until tensors are made from them, and
each record's header contains them unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from metabench.learning.fields import Count, Interval, Model, NotNegative, Number, Positive
from metabench.learning.hyperparameters import Hyperparameters, value_text
from metabench.learning.network import Network
from metabench.learning.tasks import (
    AnyDistribution,
    Placement,
    TaskDistribution,
    around,
    distribution,
    evenly,
    scale,
)

META_ITERATIONS = 100_000_000
"""The largest number of meta-iterations of a cell."""

BankSize = Annotated[int, Field(ge=2, le=100_000)]
MetaIterations = Annotated[int, Field(ge=0, le=META_ITERATIONS)]
Width = Annotated[int, Field(ge=1, le=4096)]
Hidden = Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]

Showcase = dict[str, Number]
"""Parameters of the task that pictures show."""

NAMED_STEPS = ("own", "common", "tuned")


def step_rule(text: str) -> tuple[str, float]:
    """Return the kind of a step rule, and its number: a factor, or the size itself.

    Raises:
        ValueError: The text is no step rule.

    Example:
        >>> step_rule("tuned"), step_rule("own x 4"), step_rule("fixed 0.05")
        (('tuned', 1.0), ('own', 4.0), ('fixed', 0.05))
    """
    if text in NAMED_STEPS:
        return text, 1.0
    match = re.fullmatch(r"(own x |fixed )?([0-9.]+(?:e[+-]?[0-9]+)?)", text)
    try:
        number = float(match[2]) if match else 0.0
    except ValueError:
        number = 0.0
    if not match or not 0 < number <= 1e6:
        raise ValueError(
            f"a step rule is own, common, tuned, a number, or a multiple such as 'own x 4'; "
            f"got {text!r:.60}"
        )
    return "own" if match[1] == "own x " else "fixed", number


def _as_text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(value) if is_number else value


def _canonical(text: str) -> str:
    """Return a step rule in its canonical form, which never looks like a number: `fixed 0.05`."""
    kind, number = step_rule(text)
    if text in NAMED_STEPS:
        return text
    return f"own x {value_text(number)}" if kind == "own" else f"fixed {value_text(number)}"


def _each_once(rules: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(rules)) < len(rules):
        raise ValueError(f"each step rule must be given once, got {', '.join(rules)}")
    return rules


StepRule = Annotated[str, BeforeValidator(_as_text), AfterValidator(_canonical)]
"""The step size of adaptation: `own`, `common`, `tuned`, `own x 4` or `fixed 0.05`.

In a study file, `fixed 0.05` is the number 0.05.
"""

StepRules = Annotated[tuple[StepRule, ...], Field(min_length=1), AfterValidator(_each_once)]


class NetworkSettings(Model):
    """Settings of the network."""

    hidden: Hidden = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"
    initialization: Literal["uniform", "zero-biases", "normal"] = "uniform"

    def build(self, features: int) -> Network:
        """Return the network for tasks whose x has this many features."""
        return Network((features, *self.hidden, 1), self.activation, self.initialization)


class Protocol(Model):
    """One evaluation setting: the data of each task, and how an algorithm may adapt to it.

    Args:
        shots: Number of support points of each held-out task.
        support: Interval of the support points, in each feature of x.
        updates: Number of gradient steps of adaptation.
        queries: Number of fresh points on which the loss is measured; 0 selects the grid.
        domain: Interval of the query points; by default, that of the tasks.
        noise: Standard deviation of the noise on support labels; by default, that of the tasks.
        placement: How the support points lie: random (uniform), or even (the centers of equal
            parts).
        gap: Interval without support points, inside `support`.
        outliers: Number of support points with the label of a different point of their task.
        regions: Parts of the query grid whose losses are also measured: the inside and the outside
            of the support interval, or quarters of the grid by distance to the nearest support
            point.
        optimizer: Optimizer of gradient steps; by default, the algorithm's own.
        tasks: Settings of the task distribution that this protocol changes.
        bank: Index of the banks of held-out tasks. Different indices have different tasks.
    """

    shots: Annotated[int, Field(ge=1, le=1000)]
    support: Interval
    updates: Annotated[int, Field(ge=1, le=1000)]
    queries: Annotated[int, Field(ge=0, le=10_000)] = 0
    domain: Interval | None = None
    noise: NotNegative | None = None
    placement: Literal["random", "even"] = "random"
    gap: Interval | None = None
    outliers: Annotated[int, Field(ge=0, le=1000)] = 0
    regions: Literal["support", "distance"] = "support"
    optimizer: Literal["sgd", "adam"] | None = None
    tasks: dict[str, Any] | None = None
    bank: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    @property
    def place(self) -> Placement:
        """The placement of support points."""
        place = evenly if self.placement == "even" else scale
        return around(self.gap, place) if self.gap else place

    @model_validator(mode="after")
    def _support_points(self) -> Self:
        if self.outliers > self.shots:
            raise ValueError(f"outliers must be at most shots, got {self.outliers} of {self.shots}")
        (low, high), (first, last) = self.support, self.gap or self.support
        if self.gap and not low < first < last < high:
            raise ValueError(
                f"gap must lie inside support [{low:g}, {high:g}], got [{first:g}, {last:g}]"
            )
        return self

    def distribution(self, tasks: TaskDistribution) -> TaskDistribution:
        """Return the distribution of the tasks under this protocol.

        Raises:
            ValueError: The family has no such settings as `tasks` gives.
        """
        changes = dict(self.tasks or {})
        if self.noise is not None:
            changes["noise"] = self.noise
        if self.domain is not None:
            changes["domain"] = self.domain
        if not changes:
            return tasks
        if changes.get("family", tasks.family) == tasks.family:
            return distribution({**tasks.model_dump(), **changes})
        # A different family keeps only the settings that all families have.
        shared = TaskDistribution.model_fields
        return distribution({**tasks.model_dump(include=set(shared)), **changes})


def doubling(updates: int) -> list[int]:
    """Return 0, the powers of two and the last of a number of updates.

    Example:
        >>> doubling(10)
        [0, 1, 2, 4, 8, 10]
    """
    powers = [2**n for n in range(updates.bit_length())]
    return sorted({0, *powers, updates})


class EvaluatedProtocol(Protocol):
    """A protocol with the step sizes of its updates, and the updates that are measured.

    Args:
        steps: Step rules; by default, those of each algorithm.
        curve: Whether losses are measured after every update, or only after 0, 1, 2, 4, 8, ... and
            the last. By default, false for the protocols of a grid and true for others.
    """

    steps: StepRules | None = None
    curve: bool = True

    @property
    def measured(self) -> Sequence[int]:
        """The numbers of updates after which losses are measured, ascending."""
        return range(self.updates + 1) if self.curve else doubling(self.updates)


class BaselineProtocol(Protocol):
    """A protocol with the settings of the baselines.

    Args:
        gaussian_process_length_scale: Length scale of the Gaussian process.
    """

    gaussian_process_length_scale: Positive


class Validation(Model):
    """The validation curve of a training job."""

    tasks: BankSize
    interval: Count
    protocol: Protocol
    step: Positive | None
    """Step size of the updates; None selects the algorithm's own."""


class TrainSettings(Model):
    """All that the result of a training job depends on, except its seeds."""

    algorithm: str
    hyperparameters: SerializeAsAny[Hyperparameters]
    meta_iterations: MetaIterations
    tasks: AnyDistribution
    network: NetworkSettings
    validation: Validation

    @property
    def shape(self) -> Network:
        """The network."""
        return self.network.build(self.tasks.features)


class Banks(Model):
    """Sizes of the banks of held-out tasks: test for results, validation for selection."""

    test: BankSize
    validation: BankSize


class EvaluateSettings(Model):
    """All that the evaluation of a trained cell under a group of protocols depends on."""

    algorithm: str
    hyperparameters: SerializeAsAny[Hyperparameters]
    tasks: AnyDistribution
    network: NetworkSettings
    protocols: dict[str, EvaluatedProtocol]
    banks: Banks
    common_step_size: Positive
    tuning_step_sizes: tuple[Positive, ...]
    showcase: Showcase

    @property
    def shape(self) -> Network:
        """The network."""
        return self.network.build(self.tasks.features)


class GaussianProcess(Model):
    """The RBF kernel of the baseline. Its length scale is a setting of each protocol."""

    variance: Positive = 4.25
    jitter: Positive = 1e-4

    @model_validator(mode="after")
    def _positive_definite(self) -> Self:
        if not self.jitter >= 1e-9 * self.variance:
            raise ValueError(
                f"jitter must be at least 1e-9 of the variance {self.variance:g}, got "
                f"{self.jitter:g}"
            )
        return self


class BaselineSettings(Model):
    """All that the baselines depend on under a group of protocols. They have no seeds."""

    tasks: AnyDistribution
    protocols: dict[str, BaselineProtocol]
    banks: Banks
    gaussian_process: GaussianProcess
    showcase: Showcase
