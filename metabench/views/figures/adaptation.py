"""Score and loss on the whole grid against updates: how fast each initialization adapts."""

from __future__ import annotations

from matplotlib.figure import Figure

from metabench.views.drawing.curves import curves
from metabench.views.drawing.medium import canvas_of_one, headline, in_lines
from metabench.views.drawing.names import name_ends
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import LOSS, titled

NAME = "adaptation_{protocol}_{statistic}"
CHOICES = {"statistic": ("score", "mean")}
CATEGORY = "Adaptation"
CAPTION = """
Mean score, or mean loss, on the whole query grid against the number of gradient steps on a test
task's support points, on a logarithmic axis. A score is the loss divided by that of predicting zero
on the same task and points, capped at 1. The title gives the numbers of training seeds and test
tasks behind each point. All algorithms share the same tasks.

{lines} Long dashes with one mark at their end are trained methods that take no gradient steps, and
predict from the support points at once.

{intervals} Overlapping intervals do not mean that two algorithms are equal: they share the same
tasks, and the paired comparisons are more sensitive.

The mean loss includes every adaptation, so a few that diverge can dominate it while the score
improves; if one diverged, or one seed or task dominates, it has no interval. Below a name is the
share of adaptations that have diverged by the last update. An arrow marks the update at which a
line leaves the axis: upwards where losses are too large or infinite, downwards where they are
exactly 0. Baselines with a score below 0.00001, such as least squares on sine and cosine, are not
drawn.
"""


NAMES = {"score": "score: loss over that of predicting zero", "mean": LOSS}
"""Axis label of a statistic."""


def draw(tables: Tables, protocol: str, statistic: str) -> Figure:
    """Draw the mean score or the mean loss of one protocol."""
    figure = canvas_of_one()
    axes = figure.subplots()
    ends = curves(axes, tables, protocol, "all", statistic)
    axes.set_ylabel(in_lines(NAMES[statistic]))
    what = f"mean over {tables.size(protocol)}{tables.note}"
    headline(figure, titled(protocol, f"protocol: {what}"), axes)
    name_ends(figure, axes, ends)
    return figure
