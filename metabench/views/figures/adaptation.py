"""Loss on the whole grid against updates: how fast each initialization adapts."""

from __future__ import annotations

from matplotlib.figure import Figure

from metabench.views.drawing.curves import curves
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import LOSS, WIDTH, titled

NAME = "adaptation_{protocol}_{statistic}"
CHOICES = {"statistic": ("mean", "median")}
CATEGORY = "Adaptation"
CAPTION = """
Loss on the whole query grid against the number of gradient steps on a test task's support points,
on a logarithmic axis. The title says how many training seeds and test tasks are behind each point.
Every algorithm meets the same tasks.

Solid lines are the published cells: FOMAML and Reptile adapt with their own inner step size, joint
training and the random initialization with the study's common one. Dashed lines are what the
validation bank chooses: the selected cell of the grid and, for the yardsticks, the step size of
adaptation as well. Where there is no dashed line, validation chooses the published cell. A selected
cell may adapt with a different step size than the published one. Dotted horizontal lines are
baselines that take no gradient steps.

In the figure of the mean, bands are intervals of the mean over seeds and tasks together (crossed
design; 95 % unless the study asks for another level). The bars at the right are the intervals of
the baselines, over tasks alone. In the figure of the median, the bars at the right are its
intervals after the last update. Overlapping bands do not mean that two algorithms are equal: they
meet the same tasks, and the paired comparisons are sharper.

The mean counts every adaptation, so a few that diverge can dominate it while the median improves.
The legend gives the share of adaptations that have diverged by the last update. An arrow marks the
update at which a line leaves the axis: upwards where losses are too large or infinite, downwards
where they are exactly 0. Least squares on sine and cosine, which knows the form of the tasks,
scores 0 up to rounding and is not drawn.
"""


def draw(tables: Tables, protocol: str, statistic: str) -> Figure:
    """Draw the mean or the median loss of one protocol."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    curves(axes, tables, protocol, "all", statistic)
    axes.set_ylabel(f"{statistic} {LOSS}")
    what = f"{statistic} over {tables.size(protocol)}{tables.note}"
    axes.set_title(titled(protocol, f"protocol: {what}"))
    figure.legend(loc="outside right upper")
    return figure
