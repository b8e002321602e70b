"""One wave before and after fine-tuning, as in the Flux script."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from metabench.views.drawing.medium import (
    canvas,
    canvas_of_panels,
    headline,
    legend_below,
    medium,
    message,
)
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import GREY, Style, titled

NAME = "showcase_{protocol}"
CATEGORY = "Showcase"
CAPTION = """
One wave before and after fine-tuning, as in the Flux script: predictions from the sampled points,
by the published cell of each algorithm, or by the selected one where the title says so. Strong
lines are the first seed, faint lines all other seeds; grey dashed before, coloured after
fine-tuning. Algorithms with a step size of their own adapt with it, others with the study's common
one. Curves that leave the axes have diverged; a panel counts the seeds whose predictions are not
finite. This illustrates one task and one draw of points, the same for all algorithms; no conclusion
is based on it. If x has two coordinates, the panels are maps of the first seed, the first
coordinate downwards like the rows of an image. Circles are the sampled points in the colour of
their labels; values beyond the scale have the colour of its ends, and non-finite values are grey.
"""

BEFORE: dict[str, Any] = {"color": GREY, "linestyle": (0, (4, 1.5)), "linewidth": 1.0}
AFTER: dict[str, Any] = {"linestyle": "-", "linewidth": 1.4}
FAINT: dict[str, Any] = {"alpha": 0.3, "linewidth": 0.5, "zorder": 1.5}

PANELS = {
    "truth": "ground truth",
    "before": "before fine-tuning",
    "after": "after fine-tuning",
}

COLUMNS = 4
"""Panels per row of curves."""

SHORT = 13
"""Letters of a name that leaves room in a panel's title for more."""


class Shown(NamedTuple):
    """The predictions of one algorithm.

    Args:
        style: Its style.
        rows: Its rows of showcase.csv.
    """

    style: Style
    rows: pd.DataFrame

    @property
    def title(self) -> str:
        """Name of the algorithm, and of the cell's role if that is not `published`."""
        if (self.rows["role"] == "published").all():
            return self.style.label
        return f"{self.style.label},{' ' if len(self.style.label) <= SHORT else chr(10)}selected"


def draw(tables: Tables, protocol: str) -> Figure:
    """Draw a panel for each algorithm."""
    rows = tables.rows("showcase.csv", protocol=protocol)
    if not len(rows):
        return message("No algorithm of this study has a cell to show.")
    found = [_shown(tables, rows, name) for name in tables.every_algorithm]
    shown = [one for one in found if len(one.rows)]
    points = tables.rows("points.csv", protocol=protocol)
    updates = tables.rows("adaptation.csv", protocol=protocol)["update"].max()
    figure = (_curves if "x" in rows else _maps)(shown, points)
    headline(figure, titled(protocol, f"protocol, {updates} updates"), x=0.01, ha="left")
    return figure


def _shown(tables: Tables, rows: pd.DataFrame, algorithm: str) -> Shown:
    """Return the cell of an algorithm to show: its first published one, or the selected one."""
    mine = rows[rows["algorithm"] == algorithm]
    return Shown(tables.styles[algorithm], mine[mine["cell"] == mine["cell"].min()])


# One coordinate: curves of all seeds.


def _curves(shown: list[Shown], points: pd.DataFrame) -> Figure:
    """Draw the first seed of each algorithm in full, the others faint."""
    figure, panels = canvas_of_panels(len(shown), COLUMNS, height=1.6)
    for axes, one in zip(panels, shown, strict=True):
        _predictions(axes, one)
        axes.plot("x", "y", "o", data=points, color="black", markersize=3.5, label=_count(points))
        axes.set_title(one.title)
    legend_below(figure, panels[0], 4)
    return figure


def _count(points: pd.DataFrame) -> str:
    return f"{len(points)} sampled points"


def _predictions(axes: Axes, one: Shown) -> None:
    """Draw truth and predictions, with axes fitted to the truth: diverged curves leave them."""
    wave = one.rows[one.rows["seed"] == one.rows["seed"].min()]
    after = {"color": one.style.colour, **AFTER}
    for column, look in {"before": BEFORE, "after": after}.items():
        every = one.rows.pivot(index="x", columns="seed", values=column)
        axes.plot(every.iloc[:, 1:], **look | FAINT)
        axes.plot(wave["x"], wave[column], label=PANELS[column], zorder=4, **look)
    axes.plot(wave["x"], wave["truth"], ":", color="black", linewidth=1, label=PANELS["truth"])
    _count_lost(axes, one.rows)
    most = 1.7 * wave["truth"].abs().max()
    axes.set_ylim(-most, most)
    axes.set_xlim(wave["x"].min(), wave["x"].max())


def _count_lost(axes: Axes, rows: pd.DataFrame) -> None:
    """Write how many seeds have no finite prediction after fine-tuning."""
    if lost := rows.loc[~np.isfinite(rows["after"]), "seed"].nunique():
        note = f"{lost} of {rows['seed'].nunique()} seeds diverged"
        axes.text(0.02, 0.02, note, transform=axes.transAxes, fontsize=medium().field, va="bottom")


# Two coordinates: maps of the first seed.


def _maps(shown: list[Shown], points: pd.DataFrame) -> Figure:
    """Draw truth and predictions in one colour scale, fitted to the truth."""
    most = shown[0].rows["truth"].abs().max()
    scale = {"vmin": -most, "vmax": most, "cmap": "RdBu_r"}
    figure = canvas(0.4 + 2.0 * len(shown))
    panels = figure.subplots(len(shown), len(PANELS), sharex=True, sharey=True, squeeze=False)
    for row, one in zip(panels, shown, strict=True):
        first = one.rows[one.rows["seed"] == one.rows["seed"].min()]
        for axes, column in zip(row, PANELS, strict=True):
            image = _map(axes, first, column, scale)
            axes.scatter("x2", "x1", c="y", data=points, s=18, edgecolors="black", **scale)
        row[0].set_ylabel(f"{one.title}\nx1")
    for axes, name in zip(panels[0], PANELS.values(), strict=True):
        axes.set_title(name)
    for axes in panels[-1]:
        axes.set_xlabel("x2")
    figure.colorbar(image, ax=panels, label="y", extend="both", shrink=0.9 / len(shown))
    return figure


def _map(axes: Axes, rows: pd.DataFrame, column: str, scale: dict[str, Any]) -> AxesImage:
    """Draw the values of a column as an image: x1 numbers its rows from the top, x2 its columns."""
    values = rows.pivot(index="x1", columns="x2", values=column)
    axes.set_facecolor(GREY)
    edges = (*_edges(values.columns), *_edges(values.index)[::-1])
    return axes.imshow(values, origin="upper", extent=edges, aspect="equal", **scale)


def _edges(middles: pd.Index) -> tuple[float, float]:
    """Return the ends of a row of pixels."""
    half = (middles[-1] - middles[0]) / (len(middles) - 1) / 2
    return middles[0] - half, middles[-1] + half
