"""The lines of a loss figure: the cells that represent each algorithm under a protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from metabench.analysis.columns import judged
from metabench.views.drawing.reading import Tables

PUBLISHED: dict[str, Any] = {"linestyle": "-", "linewidth": 1.5}
SELECTED: dict[str, Any] = {"linestyle": (0, (4, 1.5)), "linewidth": 1.0}
STEPS = ("own", "common", "tuned")
"""The step sizes at which a published cell is drawn: the first that it has, else the first by name.
"""

DASHES: dict[str, tuple[float, ...]] = {
    "gaussian-process": (1, 1),
    "gaussian-process-fitted": (4, 1, 1, 1),
    "gaussian-process-noise": (6, 1, 2, 1),
    "gaussian-process-periodic": (2.5, 1.5),
    "linear": (5, 1, 1, 1, 1, 1, 1, 1),
    "training-mean": (1, 1, 4, 1),
    "bayes": (1, 2.5),
    "zero": (3, 1, 1, 1, 1, 1),
}
"""Dash pattern of the line of each baseline."""

OTHER: tuple[float, ...] = (2, 2)
"""That of every other one."""

KEY = {
    False: """
Solid lines are the published cells, at their own inner step size or else at the study's common one.
Dashed lines are selected on the validation bank: the cell of the grid and, for algorithms without
an inner step size, the adaptation step size as well. Where an algorithm has no dashed line,
validation selects its published cell. Lines without marks are baselines.
""",
    True: """
Each algorithm has one line: the cell that the validation bank selects, at the step size by which it
is judged. Lines without marks are baselines.
""",
}
"""What a caption says of the lines, by whether there are too many algorithms for two of each."""


class Line(NamedTuple):
    """One line: rows of the tables, and their style.

    Args:
        algorithm: Name of the algorithm or baseline.
        cell: Its cell.
        step: Its kind of step size.
        label: Its text in the legend.
        look: Properties of the line.
    """

    algorithm: str
    cell: str
    step: str
    label: str
    look: dict[str, Any]

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a table that belong to the line."""
        keys = (
            (table["algorithm"] == self.algorithm)
            & (table["cell"] == self.cell)
            & (table["step"] == self.step)
        )
        return table[keys]


def lines(tables: Tables, protocol: str) -> list[Line]:
    """Return the lines of a protocol.

    Each algorithm has its published cells, at their own step size or else the first of `STEPS` that
    they have, and its selected cell (at the step size by which it is judged) if that is a different
    line. If there are too many algorithms for that, each has only its selected cell, the best score
    first. Baselines follow.
    """
    board = tables.rows("leaderboard.csv", protocol=protocol)
    if tables.crowded:
        return [*_one_each(tables, board), *_baselines(tables, protocol)]
    found: dict[tuple[str, str, str], Line] = {}
    for algorithm in tables.every_algorithm:
        mine = board[board["algorithm"] == algorithm]
        for line in [*_published(tables, mine), *_selected(tables, mine)]:
            found.setdefault(line[:3], line)
    return [*found.values(), *_baselines(tables, protocol)]


def _one_each(tables: Tables, board: pd.DataFrame) -> Iterator[Line]:
    """Yield the line of each algorithm's selected cell, solid, the best score first."""
    chosen = [
        line
        for name in tables.every_algorithm
        for line in _selected(tables, board[board["algorithm"] == name])
    ]
    for line in sorted(chosen, key=lambda line: float(line.of(board)["score"].iloc[0])):
        yield line._replace(label=tables.styles[line.algorithm].label, look=line.look | PUBLISHED)


def _published(tables: Tables, board: pd.DataFrame) -> Iterator[Line]:
    for cell, rows in board[board["role"] == "published"].groupby("cell"):
        known = sorted(rows["step"])
        step = next((step for step in STEPS if step in known), known[0])
        yield _line(tables, rows["algorithm"].iloc[0], str(cell), step, "", PUBLISHED)


def _selected(tables: Tables, board: pd.DataFrame) -> Iterator[Line]:
    candidates = judged(board[board["role"].isin(["published", "grid"])])
    note = ", selected" if len(candidates) > 1 else ""
    for row in candidates[candidates["selected"].astype(bool)].itertuples():
        yield _line(tables, row.algorithm, row.cell, row.step, note, SELECTED)


def _baselines(tables: Tables, protocol: str) -> Iterator[Line]:
    for name in tables.baselines_of(protocol):
        yield _line(tables, name, "-", "none", "", baseline(name))


def _line(
    tables: Tables, algorithm: str, cell: str, step: str, note: str, look: dict[str, Any]
) -> Line:
    style = tables.styles[algorithm]
    note += ", tuned step" if step == "tuned" else ""
    return Line(
        algorithm,
        cell,
        step,
        style.label + note,
        {"color": style.colour, "marker": style.marker, **look},
    )


def baseline(name: str) -> dict[str, Any]:
    """Return the style of the line of a baseline, the same in every figure."""
    return {"linestyle": (0, DASHES.get(name, OTHER)), "linewidth": 1.0}


def without_marker(look: dict[str, Any]) -> dict[str, Any]:
    """Return the style of a line without markers."""
    return {key: value for key, value in look.items() if key != "marker"}
