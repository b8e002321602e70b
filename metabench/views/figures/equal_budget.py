"""Final loss of the published cells beside those that were given another's budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from metabench.views.figures.reading import Tables
from metabench.views.figures.style import WIDTH, Style, loss_axis, message


def draw(tables: Tables) -> Figure:
    """Draw means and medians with their intervals, a panel for each protocol."""
    board = tables["leaderboard.csv"]
    board = board[board["role"].isin(["published", "equal-budget"]) & (board["step"] == "own")]
    if "equal-budget" not in set(board["role"]):
        return message("This study has no cell that was given another's budget.")
    rows = board.sort_values(["point_gradients", "algorithm", "role", "cell"])
    cells = list(
        rows[["algorithm", "cell", "role", "point_gradients"]]
        .drop_duplicates()
        .itertuples(index=False)
    )
    figure = Figure(figsize=(WIDTH, 1.1 + 0.42 * len(cells)), layout="constrained")
    panels = figure.subplots(1, len(tables.protocols), sharey=True, squeeze=False)[0]
    for axes, protocol in zip(panels, tables.protocols, strict=True):
        here = rows[rows["protocol"] == protocol].set_index("cell")
        for place, cell in enumerate(cells):
            _draw(axes, here.loc[cell.cell], place, tables.styles[cell.algorithm])
        _dress(axes, tables, protocol, here)
    panels[0].set_yticks(range(len(cells)), [_label(tables, cell) for cell in cells])
    panels[0].set_ylim(len(cells) - 0.5, -0.5)
    return figure


def _label(tables: Tables, cell: Any) -> str:
    budget = EngFormatter(places=1, sep=" ")(cell.point_gradients)
    return f"{tables.styles[cell.algorithm].label}, {cell.role}\n{budget} point-gradients"


def _draw(axes: Axes, row: pd.Series, place: int, style: Style) -> None:
    """Draw the mean filled and the median hollow, one below the other."""
    for statistic, shift, face in (("mean", -0.12, style.colour), ("median", 0.12, "white")):
        value, lower, upper = (float(row[statistic + end]) for end in ("", "_lower", "_upper"))
        if not np.isfinite(value):
            axes.text(
                0.98,
                place + shift,
                f"{statistic} diverged",
                transform=axes.get_yaxis_transform(),
                ha="right",
            )
            continue
        ends = [[value - lower], [upper - value]]
        look: dict[str, Any] = {
            "color": style.colour,
            "marker": style.marker,
            "markerfacecolor": face,
        }
        axes.errorbar(
            value, place + shift, xerr=ends, capsize=2, elinewidth=1.2, markersize=5, **look
        )


def _dress(axes: Axes, tables: Tables, protocol: str, rows: pd.DataFrame) -> None:
    columns = ["mean", "median", "mean_lower", "mean_upper", "median_lower", "median_upper"]
    loss_axis(axes, "x", rows[columns].to_numpy(dtype=float))
    axes.set_xlabel("final MSE (mean filled, median hollow)")
    axes.set_title(f"{protocol}: {tables.size(protocol)}")
    axes.grid(axis="y", color="#eeeeee")
