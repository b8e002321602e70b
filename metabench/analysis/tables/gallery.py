"""Predictions on tasks of given percentiles of the loss, found and not chosen by hand."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis.columns import COUNT, NUMBER, Column
from metabench.analysis.measured import Study
from metabench.analysis.selection import pictured, step_of
from metabench.learning.one_task import curve
from metabench.records.measured import CellRecord
from metabench.study import jobs
from metabench.study.config import StudyConfig

NAME = "gallery.csv"
CAPTION = """
Predictions after the last update on test tasks of four percentiles of the loss: of all runs on all
test tasks, in the order of their loss, the ones at 5, 50, 95 and 99.9 %. The cells are those of
showcase.csv, at the step size by which a cell is judged. Rows with a shot are support points. Only
where x is one number.
"""
COLUMNS = {
    "percentile": Column(NUMBER, "Share of runs and tasks with a smaller loss, in percent."),
    "shot": Column(COUNT, "Number of the support point; empty in rows of the curve."),
}

PERCENTILES = (5.0, 50.0, 95.0, 99.9)

KEYS = ["algorithm", "cell", "role", "protocol", "percentile", "seed", "task"]
ORDER = [*KEYS, "loss", "shot", "x", "y", "prediction"]


class Place(NamedTuple):
    """A run and a task at a percentile of the loss."""

    percentile: float
    run: int
    task: int
    loss: float


def needed(config: StudyConfig) -> bool:
    """Return whether a study has this table: its predictions are curves."""
    return config.tasks.features == 1


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    planned = jobs.Study(study.config)
    found = [
        rows for protocol, record in pictured(study) for rows in _of_cell(planned, record, protocol)
    ]
    table = pd.concat(found) if found else pd.DataFrame(columns=ORDER)
    return table.sort_values([*KEYS, "shot", "x"], ignore_index=True)[ORDER]


def places(losses: NDArray[np.float64]) -> list[Place]:
    """Return the run and the task at each of the percentiles of losses ``(run, task)``.

    Example:
        >>> places(np.arange(200.0).reshape(2, 100))[1]
        Place(percentile=50.0, run=0, task=99, loss=99.0)
    """
    order = losses.argsort(axis=None, kind="stable")
    found = []
    for percentile in PERCENTILES:
        at = order[ceil(percentile / 100 * len(order)) - 1]
        run, task = (int(n) for n in np.unravel_index(at, losses.shape))
        found.append(Place(percentile, run, task, float(losses[run, task])))
    return found


def _of_cell(planned: jobs.Study, record: CellRecord, protocol: str) -> Iterator[pd.DataFrame]:
    """Yield the support points and the curve at each place of a cell."""
    rule = step_of(record, protocol)
    settings = planned.evaluate_settings(record.cell, protocol)  # the protocol is a group alone
    for place in places(record.losses(protocol, rule)[0, -1]):
        size = float(record.step_size(protocol, rule)[place.run])
        theta = record.theta[place.run]
        found = curve(settings, record.cell.value, protocol, theta, place.task, rule, size)
        points = pd.DataFrame(found.support, columns=["x", "y"]).rename_axis("shot").reset_index()
        rows = pd.DataFrame({"x": found.x, "y": found.y, "prediction": found.prediction})
        yield pd.concat([points, rows]).assign(
            protocol=protocol,
            percentile=place.percentile,
            seed=record.seeds[place.run],
            task=place.task,
            loss=place.loss,
            **record.head,
        )
