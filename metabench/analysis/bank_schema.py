"""The schema of exported tasks, `schema.json`: their files, and the predictions that are expected.

    {"study": "flux", "seeds": 10, "protocols": {...}, "files": {...}, "predictions": {...}}

Names, types and meanings of columns are declared here and in `metabench.records.predictions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from numpy.typing import NDArray

from metabench.records import predictions
from metabench.records.predictions import BANK, OF_SEEDS, PREDICTION, Column
from metabench.study.jobs import Study

NAME = "schema.json"

ROWS = {
    "test-support": "a support point of a test task",
    "test-query": "a question: a query point of a test task",
    "validation-support": "a support point of a validation task",
    "validation-query": "a query point of a validation task",
    "training-support": "a point of a training task",
    "training-query": "a point of a training task on the query grid",
}
"""What a row of each table is."""

COLUMNS = {
    **predictions.COLUMNS,
    **OF_SEEDS,
    "x": Column("float64", "Input of the task's function, in the unit of the task family."),
    "x1": Column("float64", "First coordinate of x, if it has two."),
    "x2": Column("float64", "Second coordinate of x."),
    "y": Column(
        "float64",
        "Label at x, in the unit of the task family: with noise at support points and in training, "
        "without noise at query points of validation tasks.",
    ),
}
"""The columns of every table. Arrays have the same types and meanings by their last names."""


class Values(NamedTuple):
    """An array with the names of its axes."""

    values: NDArray[Any]
    axes: tuple[str, ...]


def whole(study: Study, files: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of the tasks of a study.

    Args:
        study: The study.
        files: Schema of each file by its name.
    """
    return {
        "study": study.name,
        "seeds": study.config.seeds,
        "protocols": {name: _protocol(study, name) for name in study.protocols},
        "files": dict(files),
        "predictions": {
            "without seeds": _predictions(study, seeded=False),
            "with seeds": _predictions(study, seeded=True),
        },
    }


def table(file: str, columns: Sequence[str], rows: int) -> dict[str, Any]:
    """Return the schema of a table with some columns and a number of rows."""
    return {"row": ROWS[file], "rows": rows, "columns": _columns(columns)}


def arrays(found: Mapping[str, Values]) -> dict[str, Any]:
    """Return the schema of each array."""
    return {name: _array(name, of.axes, of.values.shape) for name, of in found.items()}


def _protocol(study: Study, name: str) -> dict[str, Any]:
    """Return what a method needs to know of a protocol."""
    settings = study.bank_settings
    protocol = settings.protocols[name]
    tasks = protocol.distribution(settings.tasks)
    return {
        "bank": predictions.bank_number(settings, name),
        "shots": protocol.shots,
        "support": protocol.support,
        "domain": tasks.domain,
        "noise": tasks.noise,
        "updates": protocol.updates,
        "query_points": settings.points(name),
        "test_tasks": settings.banks.test,
        "validation_tasks": settings.banks.validation,
    }


def _predictions(study: Study, seeded: bool) -> dict[str, Any]:
    """Return the schema of predictions: as a table, parquet or CSV, and as the arrays of an npz."""
    settings, seeds = study.bank_settings, study.config.seeds
    found, rows = {}, 0
    for name in study.protocols:
        sizes = predictions.shapes(settings, seeds, name)[seeded]
        rows += prod(sizes.values())
        for key, axes in ((BANK, ()), (PREDICTION, tuple(sizes))):
            place = f"{name}/{key}"
            found[place] = _array(place, axes, [sizes[axis] for axis in axes])
    columns = (*(OF_SEEDS if seeded else ()), *predictions.COLUMNS)
    return {"rows": rows, "columns": _columns(columns), "arrays": found}


def _columns(names: Sequence[str]) -> dict[str, Any]:
    return {name: COLUMNS[name]._asdict() for name in names}


def _array(name: str, axes: Sequence[str], shape: Sequence[int]) -> dict[str, Any]:
    column = COLUMNS[name.rpartition("/")[2]]
    return {"type": column.type, "axes": axes, "shape": shape, "meaning": column.meaning}
