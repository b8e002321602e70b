"""The contenders of a comparison, as figures need them."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from metabench.learning.scores import scores
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import Style

LOW = 1e-5
"""Lower scores of single tasks are drawn here."""


class Contender(NamedTuple):
    """One contender.

    Args:
        role: Role of the comparison.
        algorithm: Its algorithm.
        cell: Its cell.
        step: Its kind of step size.
        place: By mean score, 0 for the best.
        style: Its style.
    """

    role: str
    algorithm: str
    cell: str
    step: str
    place: int
    style: Style


def contenders(tables: Tables, protocol: str) -> list[Contender]:
    """Return the contenders of a protocol, the best mean score first: selected cells."""
    rows = ranking(tables, protocol)
    return [
        Contender(row.role, row.algorithm, row.cell, row.step, n, tables.styles[row.algorithm])
        for n, row in enumerate(rows.itertuples())
    ]


def scores_by_task(tables: Tables, protocol: str) -> pd.DataFrame:
    """Return each contender's mean score over its seeds on each task, after the last update.

    A row for each task, a column for each contender by the line of its style, in the order of
    `contenders`.
    """
    rows = tables.rows("tasks.parquet", protocol=protocol, region="all")
    zero = rows[rows["algorithm"] == "zero"].set_index("task")["loss"]
    found = {}
    for side in contenders(tables, protocol):
        mine = rows[(rows["algorithm"] == side.algorithm) & (rows["cell"] == side.cell)]
        reference = zero[mine["task"]].to_numpy()
        scored = mine.assign(score=scores(mine["loss"].to_numpy(), reference))
        found[side.style.line] = scored.groupby("task")["score"].mean()
    return pd.DataFrame(found)


def ranking(tables: Tables, protocol: str) -> pd.DataFrame:
    """Return the rows of ranking.csv of a protocol's selected cells, the best first."""
    rows = tables.rows("ranking.csv", protocol=protocol, role="selected")
    return rows.sort_values(["rank", "algorithm"])
