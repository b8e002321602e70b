"""What is trained and evaluated, and how: the settings that the core computes from.

A study file becomes these types when it is read. They stay what they are until a tensor is made,
and they are written as they are into the header of each record.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from metabench.learning.fields import Count, Interval, Model, NotNegative, Number, Positive
from metabench.learning.hyperparameters import Hyperparameters, spelled
from metabench.learning.network import Network
from metabench.learning.tasks import AnyDistribution, TaskDistribution, distribution

META_ITERATIONS = 100_000_000
"""Meta-iterations of a cell at most."""

BankSize = Annotated[int, Field(ge=2, le=100_000)]
MetaIterations = Annotated[int, Field(ge=0, le=META_ITERATIONS)]
Width = Annotated[int, Field(ge=1, le=4096)]
Hidden = Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]

Showcase = dict[str, Number]
"""Parameters of the task of the pictures."""

NAMED_STEPS = ("own", "common", "tuned")


def step_rule(text: str) -> tuple[str, float]:
    """Return the kind of a step rule, and its number: its factor, or the size itself.

    Raises:
        ValueError: It is none.

    Example:
        >>> step_rule("tuned"), step_rule("own x 4"), step_rule("fixed 0.05")
        (('tuned', 1.0), ('own', 4.0), ('fixed', 0.05))
    """
    if text in NAMED_STEPS:
        return text, 1.0
    found = re.fullmatch(r"(own x |fixed )?([0-9.]+(?:e[+-]?[0-9]+)?)", text)
    try:
        number = float(found[2]) if found else 0.0
    except ValueError:
        number = 0.0
    if not found or not 0 < number <= 1e6:
        raise ValueError(
            f"a step rule is own, common, tuned, a number, or a multiple such as 'own x 4'; "
            f"got {text!r:.60}"
        )
    return "own" if found[1] == "own x " else "fixed", number


def _as_text(given: Any) -> Any:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return repr(given) if is_number else given


def _canonical(text: str) -> str:
    """Return a step rule in its one form, which never looks like a number: `fixed 0.05`."""
    kind, number = step_rule(text)
    if text in NAMED_STEPS:
        return text
    return f"own x {spelled(number)}" if kind == "own" else f"fixed {spelled(number)}"


def _each_once(rules: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(rules)) < len(rules):
        raise ValueError(f"each step rule must be given once, got {', '.join(rules)}")
    return rules


StepRule = Annotated[str, BeforeValidator(_as_text), AfterValidator(_canonical)]
"""Which step size adaptation uses: `own`, `common`, `tuned`, `own x 4` or `fixed 0.05`.

A study file gives the last as the number alone.
"""

StepRules = Annotated[tuple[StepRule, ...], Field(min_length=1), AfterValidator(_each_once)]


class NetworkSettings(Model):
    """The network."""

    hidden: Hidden = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"
    initialization: Literal["uniform", "normal"] = "uniform"

    def build(self, features: int) -> Network:
        """Return the network for tasks whose x has so many features."""
        return Network((features, *self.hidden, 1), self.activation, self.initialization)


class Protocol(Model):
    """One evaluation setting: what a task shows, and how an algorithm may adapt to it.

    Args:
        shots: Support points of each held-out task.
        support: Interval they are drawn from, for each feature of x.
        updates: Gradient steps of adaptation.
        queries: Fresh points that the loss is measured on; 0 stands for the grid.
        domain: Interval of the query points; that of the tasks if not given.
        noise: Standard deviation of the noise on support labels; that of the tasks if not given.
        optimizer: Rule of the updates, where an algorithm takes gradient steps; its own if not given.
        tasks: Settings of the task distribution that are others under this protocol.
        bank: Number of the lists of held-out tasks; under another number they are others.
    """

    shots: Annotated[int, Field(ge=1, le=1000)]
    support: Interval
    updates: Annotated[int, Field(ge=1, le=1000)]
    queries: Annotated[int, Field(ge=0, le=10_000)] = 0
    domain: Interval | None = None
    noise: NotNegative | None = None
    optimizer: Literal["sgd", "adam"] | None = None
    tasks: dict[str, Any] | None = None
    bank: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    def distribution(self, tasks: TaskDistribution) -> TaskDistribution:
        """Return the distribution of the tasks under this protocol.

        Raises:
            ValueError: The settings in `tasks` are none of their family's.
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
        shared = TaskDistribution.model_fields
        return distribution({**tasks.model_dump(include=set(shared)), **changes})


class EvaluatedProtocol(Protocol):
    """A protocol with the step sizes of its updates.

    Args:
        steps: Step rules; those of each algorithm if not given.
    """

    steps: StepRules | None = None


class BaselineProtocol(Protocol):
    """A protocol with what the baselines are told under it.

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
    """Step size of its updates; None stands for the algorithm's own."""


class TrainSettings(Model):
    """All that the result of a training job depends on, its seeds apart."""

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
    """How many held-out tasks there are to choose on and to report on."""

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
    """The RBF kernel of the baseline; length scales stand with the protocols."""

    variance: Positive = 4.25
    jitter: Positive = 1e-4

    @model_validator(mode="after")
    def _positive_definite(self) -> Self:
        if not self.jitter >= 1e-9 * self.variance:
            raise ValueError(
                f"jitter must be 1e-9 of the variance {self.variance:g} or more, got "
                f"{self.jitter:g}"
            )
        return self


class BaselineSettings(Model):
    """All that the baselines without seeds depend on under a group of protocols."""

    tasks: AnyDistribution
    protocols: dict[str, BaselineProtocol]
    banks: Banks
    gaussian_process: GaussianProcess
    showcase: Showcase
