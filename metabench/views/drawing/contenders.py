"""The contenders of a comparison, as figures need them."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import Style


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


def ranking(tables: Tables, protocol: str) -> pd.DataFrame:
    """Return the rows of ranking.csv of a protocol's selected cells, the best first."""
    rows = tables.rows("ranking.csv", protocol=protocol, role="selected")
    return rows.sort_values(["rank", "algorithm"])
