"""Performance profiles: how the scores spread over seeds and tasks."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from metabench.views.drawing.contenders import Contender, contenders
from metabench.views.drawing.medium import canvas_of_one, headline, in_lines, legend_beside, message
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import titled

NAME = "profiles_{protocol}"
CATEGORY = "Profiles"
CAPTION = """
Performance profiles: the share of all adaptations (every seed on every test task; every task for
the baselines) whose score is at or below each level. A score is the loss divided by that of
predicting zero on the same task and points, capped at 1. Further up and further left is better. The
gap to 100 % at the right end is the share of failed adaptations, which are no better than zero; the
legend gives it. Each algorithm is represented by its selected cell, after its selected number of
updates; the best mean score comes first in the legend. Contenders at the top throughout solve every
task.
"""


def draw(tables: Tables, protocol: str) -> Figure:
    """Draw the share of all adaptations that end at or below each score."""
    found = contenders(tables, protocol)
    if not found:
        return message("This study has nothing to compare.")
    figure = canvas_of_one()
    axes = figure.subplots()
    for side in found:
        _draw(axes, tables, protocol, side)
    axes.set_xscale("log")
    axes.set_xlim(1e-5, 1)
    axes.set_ylim(0, 1.01)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("score: loss over that of predicting zero")
    axes.set_ylabel(in_lines("adaptations at or below this score"))
    headline(figure, titled(protocol, f"protocol: {tables.size(protocol)}"), axes)
    legend_beside(figure, axes)
    return figure


def _draw(axes: Axes, tables: Tables, protocol: str, side: Contender) -> None:
    """Draw one profile."""
    rows = tables.rows(
        "profiles.csv", protocol=protocol, role=side.role, algorithm=side.algorithm, cell=side.cell
    )
    failed = 1 - float(rows["share"].iloc[-1])
    percent = "<0.1" if failed < 0.0005 else f"{100 * failed:.1f}"
    label = side.style.label + (f" ({percent} % failed)" if failed > 0 else "")
    dash = (0, (1, 1)) if side.step == "none" else "-"
    axes.plot(
        rows["level"],
        rows["share"],
        label=label,
        color=side.style.colour,
        marker=side.style.marker,
        markevery=(side.place % 6 + 2, 8),
        markersize=3.5,
        linestyle=dash,
        linewidth=1.1,
    )
