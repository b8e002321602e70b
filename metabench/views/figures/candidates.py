"""The effect of tuning: the score of every candidate of every algorithm."""

from __future__ import annotations

from math import ceil

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metabench.analysis.columns import judged
from metabench.views.drawing.medium import canvas, message
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import loss_axis, titled

NAME = "candidates"
CATEGORY = "Tuning"
CAPTION = """
Mean validation score of every candidate (one dot each), after its best number of updates. The line
is their range, the tick their median, and the large mark the selected candidate. An algorithm whose
dots lie close together is easy to tune; one whose mark lies far to the left of its other dots
depends on the search that found it. Scores of 1 are no better than predicting zero. All algorithms
with more than one candidate are shown, ordered by their mean rank over protocols, the best at the
top.
"""

ROW = 0.26
"""Inches per algorithm."""

MOST = 3
"""The most panels in a row."""


def draw(tables: Tables) -> Figure:
    """Draw the candidates of each algorithm in a row, a panel for each protocol."""
    table = judged(tables["selection.csv"])
    table = table[table.groupby(["algorithm", "protocol"])["cell"].transform("size") > 1]
    if not len(table):
        return message("Every algorithm of this study has one candidate alone.")
    order = _order(table)
    protocols = tables.protocols
    columns = min(MOST, len(protocols))
    lines = ceil(len(protocols) / columns)
    figure = canvas(lines * (0.9 + ROW * len(order)))
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes in panels.flat[len(protocols) :]:
        axes.remove()
    for axes, protocol in zip(panels.flat, protocols, strict=False):
        shown = table[table["protocol"] == protocol]
        for place, name in enumerate(order):
            _row(axes, tables, shown[shown["algorithm"] == name], place)
        loss_axis(axes, "x", shown["validation_score"].to_numpy())
        axes.set_xlabel("mean validation score")
        axes.set_title(titled(protocol, "protocol"))
        axes.grid(axis="x", color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
    names = [tables.styles[name].line for name in order]
    panels[0, 0].set_yticks(range(len(order)), names)
    panels[0, 0].set_ylim(-0.6, len(order) - 0.4)
    return figure


def _order(table: pd.DataFrame) -> list[str]:
    """Return the algorithms by their mean rank over protocols, the best last."""
    least = table.pivot_table("validation_score", "algorithm", "protocol", aggfunc="min")
    ranks = least.rank().mean(axis=1)
    return sorted(ranks.index, key=lambda name: (-ranks[name], name))


def _row(axes: Axes, tables: Tables, rows: pd.DataFrame, place: int) -> None:
    """Draw the candidates of one algorithm under one protocol."""
    if not len(rows):
        return
    style = tables.styles[rows["algorithm"].iloc[0]]
    scores = rows["validation_score"]
    axes.hlines(place, scores.min(), scores.max(), color=style.colour, linewidth=0.8, alpha=0.5)
    axes.plot(scores, [place] * len(rows), "o", color=style.colour, markersize=3, alpha=0.45)
    axes.plot(scores.median(), place, "|", color="black", markersize=7)
    axes.plot(
        scores[rows["selected"].astype(bool)],
        [place],
        linestyle="none",
        marker=style.marker,
        color=style.colour,
        markeredgecolor="black",
        markeredgewidth=0.6,
        markersize=6,
    )
