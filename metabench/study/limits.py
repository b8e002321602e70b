"""Constraints on the fields of a study: limits, names and texts."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from metabench.learning import algorithms
from metabench.learning.fields import Positive
from metabench.study.messages import shorten

SEEDS, SEED_BLOCK = 10_000, 1000
"""The most seeds of a study and of a job."""

LARGEST = 100_000
"""The most bytes of a study file."""

JOBS, EVALUATIONS = 10_000, 200_000
"""The most training jobs and evaluation jobs of a study."""

PROTOCOLS = 2000
"""The most protocols of a study."""

NO_NAMES = ("false", "inf", "infinity", "na", "nan", "none", "null", "true")
"""Words that readers of tables do not treat as text."""

PREDICTIONS = (".parquet", ".csv", ".npz")
"""Endings of files of predictions."""


def _distinct(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"the values of a list must differ, got {shorten(list(values))}")
    return values


def _readable(name: str) -> str:
    if name in NO_NAMES:
        raise ValueError(f"a name must not be one of {', '.join(NO_NAMES)}; got {name!r}")
    return name


def _without_control_characters(text: str) -> str:
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text):
        raise ValueError(f"text must not contain control characters, got {shorten(text)}")
    return text


def _algorithm(given: str) -> str:
    own = r"([\w ./-]{0,200}/)?[a-z][a-z0-9_]{0,39}\.py"
    if given not in algorithms.NAMES and not re.fullmatch(own, given, re.ASCII):
        raise ValueError(
            f"unknown algorithm {shorten(given)}; choose from {', '.join(algorithms.NAMES)}, or "
            f"name a file that ends in .py, such as mine/nudge.py, in lower-case letters, digits "
            f"and underscores"
        )
    _readable(algorithms.name(given))
    return given


def _predictions(given: str) -> str:
    if not given.endswith(PREDICTIONS):
        raise ValueError(
            f"predictions are a file that ends in {', '.join(PREDICTIONS[:-1])} or "
            f"{PREDICTIONS[-1]}, got {shorten(given)}"
        )
    return given


StepSizes = Annotated[
    tuple[Positive, ...], Field(min_length=1, max_length=100), AfterValidator(_distinct)
]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$"), AfterValidator(_readable)]
Text = Annotated[
    str, Field(min_length=1, max_length=500), AfterValidator(_without_control_characters)
]
Algorithm = Annotated[str, AfterValidator(_algorithm)]
PredictionsFile = Annotated[Text, AfterValidator(_predictions)]
