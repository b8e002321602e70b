"""The gain from tuning: the score against the number of trials."""

from __future__ import annotations

from math import ceil

from matplotlib.figure import Figure

from metabench.views.drawing.medium import canvas, legend_below, message
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import titled

NAME = "trials"
CATEGORY = "Tuning"
CAPTION = """
Mean test score of the cell that validation selects from a number of candidates, averaged over which
of them were tried. All algorithms with more than one candidate are shown. A line that still falls
at its right end may gain from more trials; crossing lines mean that the order of two algorithms
depends on how long each was tuned.
"""

ACROSS = 3
"""Panels beside each other."""


def draw(tables: Tables) -> Figure:
    """Draw the score against the number of trials, a panel for each protocol."""
    table = tables["trials.csv"]
    tuned = table.groupby("algorithm")["trials"].transform("max") > 1
    table = table[tuned]
    if not len(table):
        return message("Every algorithm of this study has one candidate alone.")
    protocols = tables.protocols
    columns = min(ACROSS, len(protocols))
    lines = ceil(len(protocols) / columns)
    figure = canvas(0.8 + 2.6 * lines)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, protocol in zip(panels.flat, protocols, strict=False):
        for n, (name, rows) in enumerate(table[table["protocol"] == protocol].groupby("algorithm")):
            style = tables.styles[str(name)]
            every = max(1, len(rows) // 6)
            axes.plot(
                rows["trials"],
                rows["test_score"],
                label=style.label,
                color=style.colour,
                marker=style.marker,
                markevery=(n % min(3, every), every),
                markersize=3.5,
                linewidth=1.1,
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_xlabel("trials")
        axes.set_title(titled(protocol, "protocol"))
    for axes in panels.flat[len(protocols) :]:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_ylabel("mean test score")
    legend_below(figure, panels[0, 0], 4)
    return figure
