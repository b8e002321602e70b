"""Predictions on tasks of given percentiles of the loss."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metabench.views.drawing.medium import canvas_of_panels, headline, legend_below, message
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import Style, compact, titled

NAME = "gallery_{curved}"
CATEGORY = "Showcase"
CAPTION = """
Typical and bad predictions, found and not chosen by hand: of all runs on all test tasks, in the
order of their loss after the last update, the ones at 5, 50, 95 and 99.9 %. A row for each
algorithm, but at most for the five with the lowest mean score, which come first: their published
cells, or the selected ones if the study compares selected cells. Axes fit the tasks: a curve that
leaves them goes on outside.
"""

ROWS = 5
"""The most algorithms that are shown."""


def draw(tables: Tables, curved: str) -> Figure:
    """Draw a row of panels for each algorithm."""
    rows = tables.rows("gallery.csv", protocol=curved)
    if not len(rows):
        return message("No algorithm of this study has a cell to show.")
    shown = _best(tables, rows, curved)
    percentiles = sorted(rows["percentile"].unique())
    count = len(shown) * len(percentiles)
    figure, panels = canvas_of_panels(count, len(percentiles), height=1.45)
    for n, (algorithm, cell) in enumerate(shown):
        mine = rows[(rows["algorithm"] == algorithm) & (rows["cell"] == cell)]
        for m, percentile in enumerate(percentiles):
            found = mine[mine["percentile"] == percentile]
            axes = panels[n * len(percentiles) + m]
            _prediction(axes, found, tables.styles[algorithm])
            axes.set_title(f"{percentile:g} %: loss {compact(found['loss'].iloc[0])}")
        panels[n * len(percentiles)].set_ylabel(tables.styles[algorithm].label)
    most = 1.2 * rows["y"].abs().max()
    panels[0].set_ylim(-most, most)  # of all panels
    headline(figure, titled(curved, "protocol"), x=0.01, ha="left")
    legend_below(figure, panels[0], 4)
    return figure


def _best(tables: Tables, rows: pd.DataFrame, protocol: str) -> list[tuple[str, str]]:
    """Return algorithm and cell of the rows, one of each algorithm, the lowest scores first."""
    board = tables.rows("leaderboard.csv", protocol=protocol)
    score = board.groupby(["algorithm", "cell"])["score"].min()
    cells = rows.groupby("algorithm")["cell"].min()
    found = [(str(algorithm), str(cell)) for algorithm, cell in cells.items()]
    return sorted(found, key=lambda one: float(score[one]))[:ROWS]


def _prediction(axes: Axes, rows: pd.DataFrame, style: Style) -> None:
    """Draw one task, its support points and the prediction."""
    is_point = rows["shot"].notna()
    points, curve = rows[is_point], rows[~is_point]
    axes.plot(curve["x"], curve["y"], ":", color="black", linewidth=1, label="ground truth")
    axes.plot(curve["x"], curve["prediction"], color=style.colour, label="prediction")
    axes.plot("x", "y", "o", data=points, color="black", markersize=3, label="support points")
    axes.set_xlim(curve["x"].min(), curve["x"].max())
