"""Score inside and outside the interval from which the support points are drawn."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from metabench.views.drawing.curves import curves
from metabench.views.drawing.medium import canvas, headline, legend_below, message
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import loss_axis, titled

NAME = "robustness_regions"
CATEGORY = "Robustness"
CAPTION = """
Mean score against updates if the support points come from only part of the domain: on the grid
points inside that part (left) and outside it (right), on one logarithmic axis. A score is the loss
divided by that of predicting zero on the same points, capped at 1. On the left the support points
themselves help; on the right an adaptation has only what was meta-learned about the shape of the
tasks.

{lines}

{intervals}
"""

REGIONS = {"seen": "inside the support interval", "unseen": "outside of it"}


def draw(tables: Tables) -> Figure:
    """Draw the mean score in both regions, with a row of panels for each protocol that has them."""
    protocols = tables.protocols_with_regions
    if not protocols:
        return message("In every protocol of this study the support interval is the whole domain.")
    figure = canvas(0.4 + 2.8 * len(protocols))
    panels = figure.subplots(len(protocols), len(REGIONS), sharey="row", squeeze=False)
    for row, protocol in zip(panels, protocols, strict=True):
        limits: list[float] = []
        for axes, (region, title) in zip(row, REGIONS.items(), strict=True):
            curves(axes, tables, protocol, region, "score")
            axes.set_title(titled(f"{protocol}:", title))
            axes.set_xlabel("updates")
            limits += axes.get_ylim()
        loss_axis(row[0], "y", np.array(limits), margin=1)
        row[0].set_ylabel("mean score")
    headline(figure, f"mean over {tables.size(protocols[0])}{tables.note}")
    legend_below(figure, panels[0, 0], 3)
    return figure
