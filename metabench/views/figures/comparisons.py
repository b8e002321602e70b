"""Compare all contenders: their ranking, and how often each beats each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from metabench.views.drawing.contenders import Contender, contenders, ranking
from metabench.views.drawing.medium import canvas, headline, medium, message
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import inches, titled, whole

NAME = "comparisons_{protocol}"
CATEGORY = "Comparisons"
CAPTION = """
All pairs of contenders. The contenders are the selected cell of each algorithm, after its selected
number of updates, and the baselines.

Left: rank by mean score, with the range of ranks in 95 % of resamples of seeds and tasks. A score
is the loss divided by that of predicting zero on the same task and points, capped at 1. Right: how
often the contender of the row has a smaller loss than that of the column, in percent of matched
pairs of seed and task, ties counting one half. Numbers are bold where the interval of this
percentage excludes 50, and slanted where it does not: there it is uncertain which of the two has
the smaller loss more often. The two panels need not agree: tasks with bad results dominate the mean
score, and typical tasks the percentage.
"""

FIELD = 0.27
"""Inches of a field of the matrix, where there is room for all."""

TITLE = 2.1
"""Inches of the title of the matrix."""

RANKS, SPARE = 2.6, 0.8
"""Inches of the panel of ranks with its scores, and of the space outside the panel."""


def draw(tables: Tables, protocol: str) -> Figure:
    """Draw the ranking of a protocol's contenders, and the matrix of all pairs."""
    found = contenders(tables, protocol)
    if len(found) < 2:
        return message("This study has nothing to compare.")
    names = max(inches(contender.style.label) for contender in found)
    side = min(max(FIELD * len(found), TITLE), medium().widest - names - RANKS)
    figure = canvas(side + names + 0.7, least=side + names + RANKS)
    ratios = [figure.get_figwidth() - side - names - SPARE, side]
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=ratios)
    _ranks(left, ranking(tables, protocol), found)
    _matrix(right, tables, protocol, found)
    headline(figure, titled(protocol, f"protocol: {tables.size(protocol)}"))
    return figure


def _ranks(axes: Axes, rows: pd.DataFrame, found: list[Contender]) -> None:
    """Draw the rank of each contender with its interval, and its score."""
    for contender, row in zip(found, rows.itertuples(), strict=True):
        ends = [[max(row.rank - row.rank_lower, 0)], [max(row.rank_upper - row.rank, 0)]]
        axes.errorbar(
            row.rank,
            contender.place,
            xerr=ends,
            marker=contender.style.marker,
            linestyle="none",
            color=contender.style.colour,
            capsize=1.5,
            elinewidth=1.2,
            markersize=4.5,
        )
    labels = [
        f"{contender.style.label}  {row.score:.2g}"
        for contender, row in zip(found, rows.itertuples(), strict=True)
    ]
    axes.set_yticks(range(len(found)), labels)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlim(0.5, len(found) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("rank by mean score")
    axes.set_title("contender, mean score")
    axes.grid(axis="x", color="#eeeeee")
    axes.tick_params(axis="y", length=0)


def _matrix(axes: Axes, tables: Tables, protocol: str, found: list[Contender]) -> None:
    """Draw how often each contender beats each other."""
    chance, certain = _pairs(tables, protocol, found)
    axes.imshow(100 * chance, cmap="RdBu", vmin=0, vmax=100, aspect="auto")
    for row, column in np.argwhere(np.isfinite(chance)):
        value, is_certain = 100 * chance[row, column], certain[row, column]
        look: dict[str, Any] = {"fontweight": "bold"} if is_certain else {"style": "italic"}
        look["color"] = "white" if abs(value - 50) > 32 else "black"
        axes.text(
            column, row, whole(value), ha="center", va="center", fontsize=medium().field, **look
        )
    names = [contender.style.label for contender in found]
    axes.set_xticks(range(len(found)), names, rotation=90)
    axes.tick_params(axis="both", length=0, labelleft=False)
    axes.set_title("row beats column, % of pairs")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _pairs(
    tables: Tables, protocol: str, found: list[Contender]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return how often each beats each, and whether it is certain which does so more often."""
    places = {(c.algorithm, c.cell): c.place for c in found}
    chance = np.full((len(found), len(found)), np.nan)
    certain = np.zeros(chance.shape, dtype=bool)
    rows = tables.rows("comparisons.csv", protocol=protocol, region="all", role="selected")
    for pair in rows.itertuples():
        a, b = places[pair.algorithm_a, pair.cell_a], places[pair.algorithm_b, pair.cell_b]
        chance[a, b] = pair.probability_of_improvement
        chance[b, a] = 1 - chance[a, b]
        ends = pair.probability_lower, pair.probability_upper
        certain[a, b] = certain[b, a] = not ends[0] <= 0.5 <= ends[1]
    return chance, certain
