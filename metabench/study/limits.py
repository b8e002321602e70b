"""What the fields of a study may hold: limits, and types of lists, names and counts with their
ranges.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from metabench.learning.algorithms import NAMES
from metabench.learning.fields import Positive
from metabench.study.messages import shorten

SEEDS, SEED_BLOCK = 10_000, 1000
"""Seeds of a study and of a job."""

LARGEST = 100_000
"""Bytes of a study file, and characters of the study on a command line, where Linux ends a word at
131 072.
"""

JOBS = 10_000
"""Training jobs of a study."""

META_ITERATIONS = 100_000_000
"""Of a cell."""


def _distinct(values: list[float]) -> list[float]:
    if len(set(values)) < len(values):
        raise ValueError("the values of a list must differ from each other")
    return values


def _one_or_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _without_control_characters(text: str) -> str:
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text):
        raise ValueError(
            f"text must not hold control characters, which a terminal obeys, got {shorten(text)}"
        )
    return text


def _algorithm(spelled: str) -> str:
    if spelled not in NAMES and not re.fullmatch(
        r"[\w ./-]{0,200}\b[a-z][a-z0-9_]{0,39}\.py", spelled, re.ASCII
    ):
        raise ValueError(
            f"unknown algorithm {shorten(spelled)}; choose from {', '.join(NAMES)}, or name a file that ends in .py, "
            f"such as mine/nudge.py, in lower-case letters, digits and underscores"
        )
    return spelled


BankSize = Annotated[int, Field(ge=2, le=100_000)]
MetaIterations = Annotated[int, Field(ge=0, le=META_ITERATIONS)]
Steps = Annotated[list[Positive], Field(max_length=100), AfterValidator(_distinct)]
Grid = Annotated[Steps, Field(min_length=1), BeforeValidator(_one_or_list)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Text = Annotated[
    str, Field(min_length=1, max_length=500), AfterValidator(_without_control_characters)
]
Algorithm = Annotated[str, AfterValidator(_algorithm)]
Context = Annotated[int, Field(ge=1, le=1000)]
Optimizer = Literal["sgd", "adam"]
Schedule = Literal["constant", "linear", "cosine"]
