"""Score against the number of training tasks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metabench.analysis.columns import judged
from metabench.views.drawing.medium import canvas_of_one, headline, legend_beside
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import Style, loss_axis, titled

NAME = "training_tasks_{recurring}"
CATEGORY = "Robustness"
CAPTION = """
Mean score after the last update against the number of different tasks that training draws from,
which recur; at the right, every task is new. A line joins cells that differ in nothing else. Bars
are intervals over seeds and tasks (95 % unless the study sets a different level).
"""

SCORES = ["score_lower", "score", "score_upper"]

ENDLESS = "all new"

BESIDE = 0.05
"""Distance between the marks of two lines, so that their bars do not cover each other."""


def draw(tables: Tables, recurring: str) -> Figure:
    """Draw a line for each set of cells that differ in their training tasks alone."""
    cells = tables["cells.csv"]
    board = judged(tables.rows("leaderboard.csv", protocol=recurring))
    rows = board[["algorithm", "cell", *SCORES]].merge(cells, on=["algorithm", "cell"])
    counts = sorted(cells["training_tasks"].dropna().unique())
    at = {count: place for place, count in enumerate(counts)}
    rows = rows.assign(place=rows["training_tasks"].map(at).fillna(len(counts)))
    figure = canvas_of_one()
    axes = figure.subplots()
    other = [name for name in tables.hyperparameters if name != "training_tasks"]
    for n, ((algorithm, *_), mine) in enumerate(rows.groupby(["algorithm", *other], dropna=False)):
        if len(mine) > 1:
            _line(axes, mine.sort_values("place"), BESIDE * n, tables.styles[str(algorithm)])
    loss_axis(axes, "y", rows[SCORES].to_numpy(float).ravel())
    axes.set_xticks(range(len(counts) + 1), [*(f"{count:g}" for count in counts), ENDLESS])
    axes.set_xlabel("training tasks")
    axes.set_ylabel("mean score")
    legend_beside(figure, axes)
    headline(figure, titled(recurring, "protocol"), axes)
    return figure


def _line(axes: Axes, rows: pd.DataFrame, beside: float, style: Style) -> None:
    """Draw the scores of one set of cells, moved a little to the right of those before."""
    score = rows["score"].to_numpy(float)
    ends = np.abs([score - rows["score_lower"], rows["score_upper"] - score])
    axes.errorbar(
        rows["place"] + beside,
        score,
        np.nan_to_num(ends),
        label=style.label,
        color=style.colour,
        marker=style.marker,
        markersize=4,
    )
