"""The one loader of study files and of the settings of jobs: every key, its type and its range.

The models are the schema: an unknown key, a wrong type or a value out of range is refused before anything runs, with
one clear line for each mistake. config/README.md documents every key of a study file, and a test compares the two.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from metabench.algorithms import NAMES

SEEDS, SEED_BLOCK = 10_000, 1000
"""Seeds of a study and of a job."""

LARGEST = 100_000
"""Bytes of a study file, and characters of the study on a command line, where Linux ends a word at 131 072."""

JOBS = 10_000
"""Training jobs of a study."""

META_ITERATIONS = 100_000_000
"""Of a cell."""

MISTAKES = 10
"""Mistakes that are told in full; the rest is counted."""

ROLES = ("published", "grid", "equal-budget")
"""Roles of a cell: the source's own values, another point of the grid, or the published values at another's budget."""

RESERVED = ("reference", "redrawn")
"""Folders under results that are no study's."""


class ConfigError(ValueError):
    """A study file or settings that cannot be used; the message has one line for each mistake."""


def _ascending(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    if high - low < 1e-6:
        raise ValueError(f"an interval needs its lower end below its upper end by 1e-6, got [{low:g}, {high:g}]")
    return interval


def _distinct(values: list[float]) -> list[float]:
    if len(set(values)) < len(values):
        raise ValueError("the values of a list must differ from each other")
    return values


def _one_or_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _without_control_characters(text: str) -> str:
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text):
        raise ValueError(f"text must not hold control characters, which a terminal obeys, got {_shorten(text)}")
    return text


Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
StepOrNone = Annotated[float, Field(ge=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
CountOrNone = Annotated[int, Field(ge=0, le=10_000_000)]
BankSize = Annotated[int, Field(ge=2, le=100_000)]
MetaIterations = Annotated[int, Field(ge=0, le=META_ITERATIONS)]
Interval = Annotated[tuple[Number, Number], AfterValidator(_ascending)]
Steps = Annotated[list[Positive], Field(max_length=100), AfterValidator(_distinct)]
Grid = Annotated[Steps, Field(min_length=1), BeforeValidator(_one_or_list)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Algorithm = Literal[NAMES]  # type: ignore[valid-type]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tasks(_Model):
    """The task distribution."""

    amplitude: Interval = (0.1, 5.0)
    phase: Interval = (0.0, 6.283185307179586)
    domain: Interval = (-5.0, 5.0)
    grid_points: Annotated[int, Field(ge=2, le=10_000)] = 50


class NetworkShape(_Model):
    """The network."""

    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=8)] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"


class Published(_Model):
    """The source's own values, which mark the published cell of a grid."""

    inner_step_size: Positive | None = None
    meta_step_size: Positive | None = None


class CellGroup(_Model):
    """Cells of one algorithm: the product of its step sizes."""

    algorithm: Algorithm
    meta_iterations: MetaIterations | None = None
    equal_budget: Algorithm | None = None
    meta_batch_size: Count | None = None
    shots: Count | None = None
    inner_steps: Count | None = None
    inner_step_size: Grid | None = None
    meta_step_size: Grid | None = None
    published: Published | None = None

    @model_validator(mode="after")
    def _budget(self) -> Self:
        if (self.meta_iterations is None) == (self.equal_budget is None):
            raise ValueError("give either meta_iterations or equal_budget, and not both")
        return self


class Adaptation(_Model):
    """What adaptation needs of a protocol."""

    shots: Annotated[int, Field(ge=1, le=1000)]
    support: Interval
    updates: Annotated[int, Field(ge=1, le=1000)]


class Protocol(Adaptation):
    """One evaluation setting."""

    gaussian_process_length_scale: Positive


class Validation(_Model):
    """The validation bank, and the validation curve in training."""

    tasks: BankSize = 100
    protocol: Name = "robustness"
    interval: Count = 1000


class Evaluation(_Model):
    """The test bank and the step sizes of adaptation."""

    tasks: BankSize = 1000
    common_step_size: Positive = 0.02
    tuning_step_sizes: Grid = [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064]


class Showcase(_Model):
    """The wave of the pictures."""

    amplitude: Number = 4.0
    phase: Number = 1.0


class GaussianProcess(_Model):
    """The RBF kernel of the baseline; length scales stand with the protocols."""

    variance: Positive = 4.25
    jitter: Positive = 1e-4

    @model_validator(mode="after")
    def _positive_definite(self) -> Self:
        if self.jitter < 1e-9 * self.variance:  # the kernel of 1000 points would have no Cholesky factor
            raise ValueError(f"jitter must be 1e-9 of the variance {self.variance:g} or more, got {self.jitter:g}")
        return self


class Statistics(_Model):
    """Intervals."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=50, le=1_000_000)] = 1000


class StudyConfig(_Model):
    """A study file."""

    study: Name
    source: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_without_control_characters)]
    seeds: Annotated[int, Field(ge=1, le=SEEDS)]
    seed_block: Annotated[int, Field(ge=1, le=SEED_BLOCK)] = 10
    tasks: Tasks = Tasks()
    network: NetworkShape = NetworkShape()
    cells: Annotated[tuple[CellGroup, ...], Field(min_length=1)]
    protocols: Annotated[dict[Name, Protocol], Field(min_length=1)]
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()
    showcase: Showcase = Showcase()
    gaussian_process: GaussianProcess = GaussianProcess()
    statistics: Statistics = Statistics()

    @model_validator(mode="after")
    def _free_name(self) -> Self:
        if self.study in RESERVED:
            raise ValueError(f"study {self.study!r} is a folder of its own under results; choose another name")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.validation.protocol not in self.protocols:
            names = ", ".join(self.protocols)
            raise ValueError(f"validation.protocol {self.validation.protocol!r} is not a protocol; choose from {names}")
        for name, protocol in self.protocols.items():
            _check_support(self.tasks, protocol, f"protocols.{name}")
        return self

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        points = sum(len(group.inner_step_size or "-") * len(group.meta_step_size or "-") for group in self.cells)
        if (jobs := points * ceil(self.seeds / self.seed_block)) > JOBS:
            raise ValueError(f"cells, seeds and seed_block make {jobs} training jobs; a study has {JOBS} at most")
        if (size := len(json.dumps(self.model_dump(mode="json"), separators=(",", ":")))) > LARGEST:
            raise ValueError(f"a study has {LARGEST} characters at most when spelled in full, got {size}")
        return self


def _check_support(tasks: Tasks, protocol: Adaptation, place: str) -> None:
    """Raise ValueError where support points may lie outside the domain, or no point of the grid among them."""
    (low, high), (first, last) = tasks.domain, protocol.support
    if first < low or last > high:
        raise ValueError(f"{place}.support must lie inside tasks.domain [{low:g}, {high:g}]")
    spacing = (high - low) / (tasks.grid_points - 1)
    if ceil((first - low) / spacing) > floor((last - low) / spacing):
        raise ValueError(f"{place}.support must hold a point of the grid, got [{first:g}, {last:g}]")


class _Settings(_Model):
    """Settings of a job, as `metabench.plans` spells them: in full, nothing left to a default."""

    @model_validator(mode="after")
    def _in_full(self) -> Self:
        for name, part in self:
            for key in type(part).model_fields if isinstance(part, _Model) else ():
                if key not in part.model_fields_set:
                    raise ValueError(f"missing key {key!r} in {name}")
        return self


class Knobs(_Model):
    """The hyperparameters of a cell; one that its algorithm does not read is 0."""

    meta_step_size: StepOrNone
    meta_batch_size: CountOrNone
    shots: CountOrNone
    inner_steps: CountOrNone
    inner_step_size: StepOrNone


class TrainValidation(_Model):
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
        _check_support(self.tasks, self.validation.protocol, "validation.protocol")
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
            _check_support(self.tasks, protocol, f"protocols.{name}")
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


class Spent(_Model):
    """What one meta-iteration of one run spends."""

    tasks: Annotated[int, Field(ge=0)]
    gradient_evaluations: Annotated[int, Field(ge=0)]
    point_gradients: Annotated[int, Field(ge=0)]


class SpelledCell(_Model):
    """A cell of `metabench.plans`."""

    algorithm: Algorithm
    hyperparameters: Knobs
    meta_iterations: MetaIterations
    role: Literal[ROLES]  # type: ignore[valid-type]
    cost: Spent


class TrackSettings(_Model):
    """Settings of a job that mirrors a cell's runs: the cell, and of the study what they show."""

    cell: SpelledCell
    study: StudyConfig


SETTINGS: dict[str, type[_Model]] = {
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "baselines": BaselineSettings,
    "track": TrackSettings,
    "study": StudyConfig,
}
"""The form of what stands on a command line as JSON."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys, aliases, tags, and numbers that are spelled as nobody would read."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self._refuse("aliases are not allowed", f"*{event.anchor}", event)
        if getattr(event, "tag", None) is not None:
            self._refuse("tags are not allowed", event.tag, event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag != "tag:yaml.org,2002:str":
                self._refuse("a key must be a word", "something else", key_node)
            if key_node.value in seen:
                self._refuse("give each key once", f"the duplicate key {_shorten(key_node.value)}", key_node)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and not DECIMAL.fullmatch(node.value):
            self._refuse("a number must be spelled with decimal digits, none of them a leading zero", node.value, node)
        return super().construct_scalar(node)

    def _refuse(self, rule: str, found: str, at: Any) -> NoReturn:
        raise ConfigError(f"{rule}, got {_cut(found)} in line {at.start_mark.line + 1}")


DECIMAL = re.compile(r"[-+]?((0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+][0-9]+)?|\.inf|\.nan)", re.IGNORECASE)
"""The numbers of YAML without what its version 1.1 takes for one too: 010 (8), 1:30 (90), 1_000, 0x1f."""

TEMPLATE = "__use_yte__"
"""The key by which a file asks Snakemake to run the Python in it."""


def read(path: str | Path) -> dict[str, Any]:
    """Read one YAML file.

    Raises:
        ConfigError: It cannot be read, is too large, is not a mapping or is a template, or names a key twice.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ConfigError(f"a study file has {LARGEST} bytes at most, and this one has more")
        content = yaml.load(text.decode(), Loader=_UniqueKeyLoader)
    except ConfigError as error:
        raise ConfigError(f"{error} ({path})") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"a study file must be a mapping of keys to values, got {type(content).__name__} ({path})")
    if TEMPLATE in content:
        raise ConfigError(f"templates are not allowed, since they run code, got {TEMPLATE} ({path})")
    return content


def read_json(text: str, where: str) -> dict[str, Any]:
    """Read one JSON object.

    Args:
        text: Of the object.
        where: What it is, for error messages.

    Raises:
        ConfigError: It is no JSON object, names a key twice, or holds NaN or an infinity.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
            raise ConfigError(f"give each key once, got the duplicate key {_shorten(twice)} ({where})")
        return found

    def refuse(word: str) -> NoReturn:
        raise ConfigError(f"a number must be finite, got {word} ({where})")

    try:
        content = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not a JSON text: {error} ({where})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"it must be a JSON object, got {type(content).__name__} ({where})")
    return content


Model = TypeVar("Model", bound=_Model)


def check(model: type[Model], content: Any, where: str) -> Model:
    """Check the content of a study file, or of a job's settings.

    Args:
        model: Its form.
        content: Keys and values.
        where: The file, for error messages.

    Raises:
        ConfigError: One line for each mistake: what must hold, what came, where.
    """
    try:
        return model.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(model, error.errors(), where))) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"it must be spelled in words and numbers: {error} ({where})") from None


def parse(content: Mapping[str, Any], where: str = "config") -> StudyConfig:
    """Check the content of a study file; arguments and errors as `check`."""
    return check(StudyConfig, dict(content), where)


def load(path: str | Path) -> StudyConfig:
    """Read and check a study file; raise `ConfigError` as `read` and `parse` do."""
    return parse(read(path), str(path))


def _lines(model: type[_Model], errors: Sequence[Any], where: str) -> Iterator[str]:
    """Yield a line for each mistake, the first `MISTAKES` of them."""
    mistakes = [error for error in errors if not _follows(error, errors)]
    for error in mistakes[:MISTAKES]:
        key = _key(part for part in error["loc"] if part != "[key]")
        yield f"{_what(model, error)} ({where}{', ' if key else ''}{key})"
    if len(mistakes) > MISTAKES:
        yield f"and {len(mistakes) - MISTAKES} more ({where})"


def _follows(error: Any, errors: Sequence[Any]) -> bool:
    """Return whether a list is only too short since each of its items has a mistake of its own."""
    place = error["loc"]
    return error["type"] == "too_short" and any(e["loc"][: len(place)] == place != e["loc"] for e in errors)


def _key(location: Iterator[str | int]) -> str:
    """Spell a place: cells[1].algorithm."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_word(part)}" for part in location).lstrip(".")


def _word(name: str) -> str:
    return _cut(name if name.isprintable() else ascii(name))


def _what(model: type[_Model], error: Any) -> str:
    names = [part for part in error["loc"] if isinstance(part, str)]
    name, value = _word(names[-1]) if names else "it", _shorten(error["input"])
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key {_shorten(names[-1])}; choose from {', '.join(_fields(model, error['loc'][:-1]))}"
        case "missing":
            return f"missing key {name!r}"
        case "literal_error":
            return f"unknown {name} {value}; choose from {error['ctx']['expected'].replace(' or ', ', ')}"
        case "value_error":
            return str(error["ctx"]["error"])
        case "json_invalid":
            return f"it must be spelled in words and numbers: {error['ctx']['error']}"
        case "string_pattern_mismatch":
            name = "a name" if name == "[key]" else name
            return f"{name} must be lower-case letters, digits and hyphens, 40 at most, a letter first; got {value}"
    rule = error["msg"].partition(" should ")[2].replace(" after validation", "")
    rule = rule.replace("a valid array", "a list").replace("an object", "a mapping of keys to values")
    return f"{name} must {rule}, got {value}"


def _fields(model: type[_Model], location: Sequence[str | int]) -> list[str]:
    """Return the keys allowed at a place of a model."""
    for part in location:
        if part in model.model_fields:
            model = next(_models(model.model_fields[str(part)].annotation), model)
    return sorted(model.model_fields)


def _models(annotation: Any) -> Iterator[type[_Model]]:
    """Yield the models that an annotation names, ``dict[Name, Protocol] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, _Model):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 60


def _shorten(value: Any) -> str:
    return _cut(SHORT.repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
