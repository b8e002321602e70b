"""Score by distance to the nearest support point."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from metabench.analysis.columns import QUARTERS
from metabench.views.drawing.curves import arrow
from metabench.views.drawing.lines import lines
from metabench.views.drawing.medium import canvas_of_one, headline, legend_beside
from metabench.views.drawing.reading import LEAST, Tables
from metabench.views.drawing.style import loss_axis, titled

NAME = "distance_{distant}"
CATEGORY = "Robustness"
CAPTION = """
Mean score after the last update on the quarters of the query grid, from the points nearest to a
support point of their task to the farthest: the loss divided by that of predicting zero on the same
points, capped at 1. Bars are intervals over seeds and tasks (95 % unless the study sets a different
level).

{lines}
"""

SPREAD = 0.25
"""Distance between the first and the last mark of a quarter."""


def draw(tables: Tables, distant: str) -> Figure:
    """Draw a line for each method."""
    rows = tables.rows("adaptation.csv", protocol=distant)
    final = rows.groupby(["algorithm", "cell", "step"])["update"].transform("max")
    last = rows[rows["update"] == final]
    figure = canvas_of_one()
    axes = figure.subplots()
    known, leaving = [], []
    places = np.arange(len(QUARTERS))
    every = lines(tables, distant)
    for n, line in enumerate(every):
        mine = line.of(last).set_index("region").loc[list(QUARTERS)]
        beside = places + SPREAD * (n / len(every) - 0.5)
        score = mine["score"].to_numpy()
        ends = score - mine["score_lower"], mine["score_upper"] - score
        axes.errorbar(
            beside, score, np.nan_to_num(np.abs(ends)), label=line.label, markersize=4, **line.look
        )
        leaving += [(x, line.look["color"]) for x in beside[score < LEAST]]
        known += [score, mine["score_lower"], mine["score_upper"]]
    scores = np.concatenate(known)
    loss_axis(axes, "y", scores[scores >= LEAST])
    for x, colour in leaving:
        arrow(axes, x, 0.03, "down", colour)
    axes.set_xticks(places, QUARTERS)
    axes.set_xlabel("quarter of the grid by distance to the nearest support point")
    axes.set_ylabel("mean score")
    legend_beside(figure, axes)
    headline(figure, titled(distant, "protocol"), axes)
    return figure
