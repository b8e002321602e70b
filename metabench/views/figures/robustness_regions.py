"""Loss inside and outside the interval that the support points come from."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from metabench.views.figures.curves import curves
from metabench.views.figures.reading import Tables
from metabench.views.figures.style import WIDTH, loss_axis, message

REGIONS = {"seen": "inside the support interval", "unseen": "outside of it"}


def draw(tables: Tables) -> Figure:
    """Draw the mean loss in both regions, a row of panels for each protocol that has them."""
    protocols = tables.protocols_with_regions
    if not protocols:
        return message("In every protocol of this study the support interval is the whole domain.")
    figure = Figure(figsize=(WIDTH, 0.4 + 2.8 * len(protocols)), layout="constrained")
    panels = figure.subplots(len(protocols), len(REGIONS), sharey="row", squeeze=False)
    for row, protocol in zip(panels, protocols, strict=True):
        limits: list[float] = []
        for axes, (region, title) in zip(row, REGIONS.items(), strict=True):
            curves(axes, tables, protocol, region, "mean")
            axes.set_title(f"{protocol}: {title}")
            axes.set_xlabel("updates")
            limits += axes.get_ylim()
        loss_axis(row[0], "y", np.array(limits), margin=1)
        row[0].set_ylabel(f"mean MSE over {tables.size(protocol)}")
    if tables.note:
        figure.suptitle(tables.note.removeprefix(", "), fontsize=8)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
