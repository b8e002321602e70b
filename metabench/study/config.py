"""The one loader of study files and of the settings of jobs: every key, its type and its range.

The models are the schema: an unknown key, a wrong type or a value out of range is refused before
anything runs, with one clear line for each mistake. config/README.md documents every key of a study
file, and a test compares the two.

`study` is the schema of a study file and `jobs` of the settings of jobs, both made of the `fields`
with their limits; `reading` turns a text into a mapping, `messages` a mistake into its line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from metabench.learning.fields import Model
from metabench.study.jobs import ROLES, SETTINGS, STEPS, EvaluateSettings, TrainSettings
from metabench.study.limits import JOBS, LARGEST, META_ITERATIONS, SEED_BLOCK, SEEDS
from metabench.study.messages import ConfigError, lines
from metabench.study.reading import read, read_json
from metabench.study.schema import CellGroup, StudyConfig

__all__ = [
    "JOBS",
    "LARGEST",
    "META_ITERATIONS",
    "ROLES",
    "SEEDS",
    "SEED_BLOCK",
    "SETTINGS",
    "STEPS",
    "CellGroup",
    "ConfigError",
    "EvaluateSettings",
    "StudyConfig",
    "TrainSettings",
    "check",
    "load",
    "parse",
    "read",
    "read_json",
]

Checked = TypeVar("Checked", bound=Model)


def check(model: type[Checked], content: Any, where: str) -> Checked:
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
        raise ConfigError("\n".join(lines(model, error.errors(), where))) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"it must be spelled in words and numbers: {error} ({where})") from None


def parse(content: Mapping[str, Any], where: str = "config") -> StudyConfig:
    """Check the content of a study file; arguments and errors as `check`."""
    return check(StudyConfig, dict(content), where)


def load(path: str | Path) -> StudyConfig:
    """Read and check a study file; raise `ConfigError` as `read` and `parse` do."""
    return parse(read(path), str(path))
