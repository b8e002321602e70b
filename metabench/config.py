"""The one loader of study files: every key, its type and its range; one clear line for each mistake.

The models are the schema: an unknown key, a wrong type or a value out of range is refused before anything runs.
config/README.md documents every key, and a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import ceil, floor
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from metabench.algorithms import NAMES


class ConfigError(ValueError):
    """A study file that cannot be used; the message has one line for each mistake."""


def _ascending(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    if not low < high:
        raise ValueError(f"an interval needs its lower end below its upper end, got [{low:g}, {high:g}]")
    return interval


def _distinct(values: list[float]) -> list[float]:
    if len(set(values)) < len(values):
        raise ValueError("the values of a list must differ from each other")
    return values


def _one_or_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


RESERVED = ("reference", "redrawn")
"""Folders under results that are no study's."""

Positive = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Interval = Annotated[tuple[float, float], AfterValidator(_ascending)]
Grid = Annotated[
    list[Positive], Field(min_length=1, max_length=100), AfterValidator(_distinct), BeforeValidator(_one_or_list)
]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


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

    algorithm: Literal[NAMES]  # type: ignore[valid-type]
    meta_iterations: Annotated[int, Field(ge=0, le=100_000_000)] | None = None
    equal_budget: Literal[NAMES] | None = None  # type: ignore[valid-type]
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


class Protocol(_Model):
    """One evaluation setting."""

    shots: Annotated[int, Field(ge=1, le=1000)]
    support: Interval
    updates: Annotated[int, Field(ge=1, le=1000)]
    gaussian_process_length_scale: Positive


class Validation(_Model):
    """The validation bank, and the validation curve in training."""

    tasks: Annotated[int, Field(ge=2, le=100_000)] = 100
    protocol: Name = "robustness"
    interval: Count = 1000


class Evaluation(_Model):
    """The test bank and the step sizes of adaptation."""

    tasks: Annotated[int, Field(ge=2, le=100_000)] = 1000
    common_step_size: Positive = 0.02
    tuning_step_sizes: Grid = [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064]


class Showcase(_Model):
    """The wave of the pictures."""

    amplitude: float = 4.0
    phase: float = 1.0


class GaussianProcess(_Model):
    """The RBF kernel of the baseline; length scales stand with the protocols."""

    variance: Positive = 4.25
    jitter: Positive = 1e-4


class Statistics(_Model):
    """Intervals."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=50, le=1_000_000)] = 1000


class StudyConfig(_Model):
    """A study file."""

    study: Name
    source: Annotated[str, Field(min_length=1, max_length=500)]
    seeds: Annotated[int, Field(ge=1, le=10_000)]
    seed_block: Annotated[int, Field(ge=1, le=1000)] = 10
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
        low, high = self.tasks.domain
        for name, protocol in self.protocols.items():
            first, last = protocol.support
            if first < low or last > high:
                raise ValueError(f"protocols.{name}.support must lie inside tasks.domain [{low:g}, {high:g}]")
            spacing = (high - low) / (self.tasks.grid_points - 1)
            if ceil((first - low) / spacing) > floor((last - low) / spacing):
                raise ValueError(f"protocols.{name}.support must hold a point of the grid, got [{first:g}, {last:g}]")
        return self


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys and aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise ConfigError(f"aliases are not allowed, got *{event.anchor} in line {event.start_mark.line + 1}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag != "tag:yaml.org,2002:str":
                raise ConfigError(f"a key must be a word, got something else in line {line}")
            if key_node.value in seen:
                raise ConfigError(f"duplicate key {key_node.value!r} in line {line}; give each key once")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def read(path: str | Path) -> dict[str, Any]:
    """Read one YAML file.

    Raises:
        ConfigError: It cannot be read, is not a mapping, or names a key twice.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except ConfigError as error:
        raise ConfigError(f"{error} ({path})") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"a study file must be a mapping of keys to values, got {type(content).__name__} ({path})")
    return content


def parse(content: Mapping[str, Any], where: str = "config") -> StudyConfig:
    """Check the content of a study file.

    Args:
        content: Keys and values.
        where: The file, for error messages.

    Raises:
        ConfigError: One line for each mistake: what must hold, what came, where.
    """
    try:
        return StudyConfig.model_validate_json(json.dumps(dict(content), default=str), strict=True)
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(error.errors(), where))) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"a study must be spelled in words and numbers: {error} ({where})") from None


def load(path: str | Path) -> StudyConfig:
    """Read and check a study file; raise `ConfigError` as `read` and `parse` do."""
    return parse(read(path), str(path))


def _lines(errors: Iterable[Any], where: str) -> list[str]:
    return [f"{_what(error)} ({where}{', ' + key if (key := _key(error['loc'])) else ''})" for error in errors]


def _key(location: Iterable[str | int]) -> str:
    """Spell a place in a study file: cells[1].algorithm."""
    words = (
        f"[{part}]" if isinstance(part, int) else f".{part if part.isprintable() else ascii(part)}" for part in location
    )
    return "".join(words).lstrip(".")


def _what(error: Any) -> str:
    names = [part for part in error["loc"] if isinstance(part, str)]
    name, value = names[-1] if names else "a study", _shorten(error["input"])
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key {name!r}; choose from {', '.join(_fields(error['loc'][:-1]))}"
        case "missing":
            return f"missing key {name!r}"
        case "literal_error":
            return f"unknown {name} {value}; choose from {error['ctx']['expected'].replace(' or ', ', ')}"
        case "value_error":
            return str(error["ctx"]["error"])
        case "string_pattern_mismatch":
            return f"{name} must be lower-case letters, digits and hyphens, 40 at most, a letter first; got {value}"
    return f"{error['msg'].replace('Input should', f'{name} must', 1)}, got {value}"


def _fields(location: Iterable[str | int]) -> list[str]:
    """Return the keys allowed at a place of a study file."""
    sections: dict[str | int, type[_Model]] = {
        "tasks": Tasks,
        "network": NetworkShape,
        "cells": CellGroup,
        "published": Published,
        "protocols": Protocol,
        "validation": Validation,
        "evaluation": Evaluation,
        "showcase": Showcase,
        "gaussian_process": GaussianProcess,
        "statistics": Statistics,
    }
    models = [sections[part] for part in location if part in sections]
    model: type[_Model] = models[-1] if models else StudyConfig
    return sorted(model.model_fields)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
