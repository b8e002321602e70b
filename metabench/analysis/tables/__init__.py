"""Tidy tables of a finished study: a row is an observation.

Each file of this folder declares and builds one table:

    NAME       its file name
    CAPTION    its caption in the report, in reStructuredText
    COLUMNS    type and meaning of the columns that no other table has; `metabench.analysis.columns`
               has the others
    build      builds it from all that was measured
    needed     whether a study has it (optional: every study has most of them)

The bytes are the same for the same records: sorted rows, one float format, no dates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

import pandas as pd

from metabench.analysis import frames
from metabench.analysis.columns import Column
from metabench.analysis.measured import Study
from metabench.records import manifests
from metabench.records.artifacts import Header
from metabench.records.provenance import code_digest, made_from
from metabench.study.config import StudyConfig

PACKAGES = ("torch", "numpy", "scipy", "pandas", "pyarrow")
"""The packages on whose versions the bytes of a table may depend."""


class Table(NamedTuple):
    """The declarations of a file of this folder.

    Args:
        name: File name of the table.
        caption: Its caption in the report.
        columns: Type and meaning of the columns that no other table has.
        build: Builds it.
        needed: Whether a study has it; None if every study has it.
    """

    name: str
    caption: str
    columns: Mapping[str, Column]
    build: Callable[[Study], pd.DataFrame]
    needed: Callable[[StudyConfig], bool] | None


def _modules() -> list[str]:
    """Return the full module names of the files of this folder; each is a table."""
    return [f"{__name__}.{module.name}" for module in iter_modules(__path__)]


@cache
def declared() -> tuple[Table, ...]:
    """Return every table, in the order of their names."""
    modules = [import_module(name) for name in _modules()]
    return tuple(
        Table(m.NAME, m.CAPTION, m.COLUMNS, m.build, getattr(m, "needed", None)) for m in modules
    )


def of_study(config: StudyConfig) -> list[Table]:
    """Return the tables of a study."""
    return [table for table in declared() if table.needed is None or table.needed(config)]


def names(config: StudyConfig | None = None) -> list[str]:
    """Return the files of a study's table folder, except their manifest.

    Args:
        config: The study; by default, the tables that every study has.
    """
    tables = of_study(config) if config else [one for one in declared() if one.needed is None]
    return [table.name for table in tables]


def of_folder(folder: Path) -> list[str]:
    """Return the tables that a folder must contain: those of every study, and others it has."""
    return [
        table.name
        for table in declared()
        if table.needed is None or frames.exists(folder, table.name)
    ]


def header(config: StudyConfig, contents: str) -> Header:
    """Return the inputs of a study's tables.

    Args:
        config: The study.
        contents: `metabench.records.measured.Reader.contents` of its records.
    """
    code = code_digest(__name__, *_modules())
    settings = config.model_dump(mode="json")
    return made_from("tables", settings, code, PACKAGES, records=contents)


def write_all(study: Study, folder: Path, advance: Callable[[], None] = lambda: None) -> None:
    """Build and write every table of a study, and finally their manifest.

    Args:
        study: The records.
        folder: Where to write.
        advance: Called after each table.
    """
    for table in of_study(study.config):
        frames.write(study.once(table.build), folder / table.name)
        advance()
    manifests.write(folder, names(study.config), header(study.config, study.contents))
