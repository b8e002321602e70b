"""Distributions of labels of the showcase wave."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metabench.views.drawing.medium import canvas_of_panels, headline, legend_below, message
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import Style, titled

NAME = "bands_{noisy}"
CATEGORY = "Predictive distributions"
CAPTION = """
Distributions of labels of the showcase wave, given the sampled points, by the first seed of the
cells in the showcase: the mean, and the central interval of 90 % (shaded) in which nine of ten
noisy labels should lie. Algorithms that predict no variance are left out. This illustrates one task
and one draw of points; no conclusion is based on it.
"""

COLUMNS = 3
"""Panels per row."""

REACH = 1.645
"""Half the width of the central interval of 90 %, in standard deviations."""


def draw(tables: Tables, noisy: str) -> Figure:
    """Draw a panel for each algorithm."""
    rows = tables.rows("bands.csv", protocol=noisy)
    if not len(rows) or "x" not in rows:
        return message("No algorithm of this study predicts a variance over one coordinate.")
    shown = {
        name: found[found["cell"] == found["cell"].min()]
        for name, found in rows.groupby("algorithm")
    }
    figure, panels = canvas_of_panels(len(shown), COLUMNS, height=1.7)
    for axes, (name, found) in zip(panels, shown.items(), strict=True):
        _band(axes, tables, noisy, found, tables.styles[str(name)])
    legend_below(figure, panels[0], 4)
    headline(figure, titled(noisy, "protocol"), x=0.01, ha="left")
    return figure


def _band(axes: Axes, tables: Tables, protocol: str, rows: pd.DataFrame, look: Style) -> None:
    """Draw one distribution over truth and sampled points."""
    wave = tables.rows("showcase.csv", protocol=protocol, algorithm=rows["algorithm"].iloc[0])
    wave = wave[wave["seed"] == wave["seed"].min()].drop_duplicates("x")
    points = tables.rows("points.csv", protocol=protocol)
    x, mean, reach = rows["x"], rows["prediction"], REACH * rows["deviation"]
    axes.fill_between(
        x,
        mean - reach,
        mean + reach,
        color=look.colour,
        alpha=0.2,
        linewidth=0,
        label="90 % of labels",
    )
    axes.plot(x, mean, color=look.colour, linewidth=1.4, label="mean")
    axes.plot(wave["x"], wave["truth"], ":", color="black", linewidth=1, label="ground truth")
    axes.plot("x", "y", "o", data=points, color="black", markersize=3.5, label="sampled points")
    most = 1.9 * wave["truth"].abs().max()
    axes.set_ylim(-most, most)
    axes.set_xlim(x.min(), x.max())
    axes.set_title(look.label)
