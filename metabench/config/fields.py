"""What the fields of the models may hold: limits, and types of numbers, lists and names with their ranges."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from metabench.algorithms import NAMES
from metabench.config.messages import shorten

SEEDS, SEED_BLOCK = 10_000, 1000
"""Seeds of a study and of a job."""

LARGEST = 100_000
"""Bytes of a study file, and characters of the study on a command line, where Linux ends a word at 131 072."""

JOBS = 10_000
"""Training jobs of a study."""

META_ITERATIONS = 100_000_000
"""Of a cell."""


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
        raise ValueError(f"text must not hold control characters, which a terminal obeys, got {shorten(text)}")
    return text


Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
BankSize = Annotated[int, Field(ge=2, le=100_000)]
MetaIterations = Annotated[int, Field(ge=0, le=META_ITERATIONS)]
Interval = Annotated[tuple[Number, Number], AfterValidator(_ascending)]
Steps = Annotated[list[Positive], Field(max_length=100), AfterValidator(_distinct)]
Grid = Annotated[Steps, Field(min_length=1), BeforeValidator(_one_or_list)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Text = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_without_control_characters)]
Algorithm = Literal[NAMES]  # type: ignore[valid-type]


class Model(BaseModel):
    """What all models have in common: no unknown key, no infinity, no change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
