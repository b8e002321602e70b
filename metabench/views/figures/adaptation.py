"""Score and loss on the whole grid against updates: how fast each initialization adapts."""

from __future__ import annotations

from matplotlib.figure import Figure

from metabench.views.drawing.curves import curves
from metabench.views.drawing.medium import canvas_of_one, headline, in_lines, legend_beside
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import LOSS, titled

NAME = "adaptation_{protocol}_{statistic}"
CHOICES = {"statistic": ("score", "mean")}
CATEGORY = "Adaptation"
CAPTION = """
Mean score, or mean loss, on the whole query grid against the number of gradient steps on a test
task's support points, on a logarithmic axis. A score is the loss over that of predicting zero on
the same task and points, at most 1. The title says how many training seeds and test tasks are behind
each point. Every algorithm meets the same tasks.

Solid lines are the published cells: FOMAML and Reptile adapt with their own inner step size, joint
training and the random initialization with the study's common one. Dashed lines are what the
validation bank chooses: the selected cell of the grid and, for the yardsticks, the step size of
adaptation as well. Where there is no dashed line, validation chooses the published cell. A selected
cell may adapt with a different step size than the published one. Dotted horizontal lines are
baselines that take no gradient steps.

Bands are intervals over seeds and tasks together (crossed design; 95 % unless the study asks for
another level). The bars at the right are the intervals of the baselines, over tasks alone, and of
predictions that were made elsewhere, over their seeds too.
Overlapping bands do not mean that two algorithms are equal: they meet the same tasks, and the paired
comparisons are sharper.

The mean loss counts every adaptation, so a few that diverge can dominate it while the score
improves; where one diverged it has no interval. The legend gives the share of adaptations that have
diverged by the last update. An arrow marks the update at which a line leaves the axis: upwards where
losses are too large or infinite, downwards where they are exactly 0. Baselines with a score below
0.00001, as least squares on sine and cosine has it, are not drawn.
"""


NAMES = {"score": "score: loss over that of predicting zero", "mean": LOSS}
"""Axis label of a statistic."""


def draw(tables: Tables, protocol: str, statistic: str) -> Figure:
    """Draw the mean score or the mean loss of one protocol."""
    figure = canvas_of_one()
    axes = figure.subplots()
    curves(axes, tables, protocol, "all", statistic)
    axes.set_ylabel(in_lines(NAMES[statistic]))
    what = f"mean over {tables.size(protocol)}{tables.note}"
    headline(figure, titled(protocol, f"protocol: {what}"), axes)
    legend_beside(figure, axes)
    return figure
