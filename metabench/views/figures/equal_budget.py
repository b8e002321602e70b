"""Final loss of the published cells beside those that were given another's budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import WIDTH, Style, inches, loss_axis, message, titled

NAME = "equal_budget"
CATEGORY = "Comparisons"
CAPTION = """
Loss after the last update of the published cells, and of cells that were trained until they had
spent the point-gradients of another algorithm's published cell. Filled markers are means, hollow
ones medians, with their intervals over seeds and tasks (95 % unless the study asks for another
level); the axis is logarithmic. The published settings differ in how much arithmetic a
meta-iteration takes, so compare rows with equal point-gradients.
"""

PANEL = 2.4
"""Inches of a panel at least, so that the label of its axis has room."""


def draw(tables: Tables) -> Figure:
    """Draw means and medians with their intervals, a panel for each protocol."""
    board = tables["leaderboard.csv"]
    board = board[board["role"].isin(["published", "equal-budget"]) & (board["step"] == "own")]
    if "equal-budget" not in set(board["role"]):
        return message("This study has no cell that was given another's budget.")
    rows = board.sort_values(["point_gradients", "algorithm", "role", "cell"])
    columns = ["algorithm", "cell", "role", "point_gradients"]
    cells = list(rows[columns].drop_duplicates().itertuples(index=False))
    labels = [_label(tables, cell) for cell in cells]

    width = max(map(inches, labels)) + PANEL * len(tables.protocols)
    figure = Figure(figsize=(max(WIDTH, width), 1.1 + 0.42 * len(cells)), layout="constrained")
    panels = figure.subplots(1, len(tables.protocols), sharey=True, squeeze=False)[0]
    for axes, protocol in zip(panels, tables.protocols, strict=True):
        here = rows[rows["protocol"] == protocol].set_index(["algorithm", "cell"])
        for place, cell in enumerate(cells):
            row = here.loc[(cell.algorithm, cell.cell)]
            _draw(axes, row, place, tables.styles[cell.algorithm])
        _dress(axes, tables, protocol, here)
    panels[0].set_yticks(range(len(cells)), labels)
    panels[0].set_ylim(len(cells) - 0.5, -0.5)
    return figure


def _label(tables: Tables, cell: Any) -> str:
    """Spell a cell's algorithm, role and budget."""
    budget = EngFormatter(places=1, sep=" ")(cell.point_gradients)
    return f"{tables.styles[cell.algorithm].label}, {cell.role}\n{budget} point-gradients"


def _draw(axes: Axes, row: pd.Series, place: int, style: Style) -> None:
    """Draw the mean filled and the median hollow, one below the other."""
    for statistic, shift, face in (("mean", -0.12, style.colour), ("median", 0.12, "white")):
        value, lower, upper = (float(row[statistic + end]) for end in ("", "_lower", "_upper"))
        if not np.isfinite(value):
            _say(axes, f"{statistic} diverged", 0.98, place + shift, "right")
        elif value == 0:
            _say(axes, f"{statistic} 0", 0.02, place + shift, "left")
        else:
            look: dict[str, Any] = {
                "color": style.colour,
                "marker": style.marker,
                "markerfacecolor": face,
            }
            ends = [[value - lower], [upper - value]]
            axes.errorbar(
                value, place + shift, xerr=ends, capsize=2, elinewidth=1.2, markersize=5, **look
            )


def _say(axes: Axes, text: str, x: float, y: float, side: str) -> None:
    """Write what a logarithmic axis cannot show at one of its ends."""
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), ha=side)


def _dress(axes: Axes, tables: Tables, protocol: str, rows: pd.DataFrame) -> None:
    """Give a panel its axis and title."""
    columns = ["mean", "median", "mean_lower", "mean_upper", "median_lower", "median_upper"]
    loss_axis(axes, "x", rows[columns].to_numpy(dtype=float))
    axes.set_xlabel("final MSE (mean filled, median hollow)")
    axes.set_title(titled(f"{protocol}:", tables.size(protocol)))
    axes.grid(axis="y", color="#eeeeee")
