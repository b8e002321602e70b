"""The one loader of study files: every key, its type and its range.

The models are the schema: an unknown key, a wrong type or a value out of range is an error before
anything runs, in one clear line for each mistake. config/README.md documents every key, and a test
compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metabench.study.messages import ConfigError, check
from metabench.study.reading import read, read_json
from metabench.study.schema import StudyConfig

__all__ = ["ConfigError", "StudyConfig", "check", "load", "parse", "read", "read_json"]


def parse(content: Mapping[str, Any], where: str = "config") -> StudyConfig:
    """Check the content of a study file; raise ConfigError as `check` does.

    Whatever needs the algorithms and the expanded grids is checked by `metabench.study.jobs.Study`.
    """
    return check(StudyConfig, content, where)


def load(path: str | Path) -> StudyConfig:
    """Read and check a study file; raise ConfigError as `read` and `parse` do."""
    return parse(read(path), str(path))
