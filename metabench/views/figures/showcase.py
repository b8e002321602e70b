"""One wave before and after fine-tuning, as the source shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import GREY, WIDTH, titled

NAME = "showcase_{algorithm}_{protocol}"
CATEGORY = "Showcase"
CAPTION = """
One wave before and after fine-tuning, as the source of the study shows it: the published cell's
prediction from the sampled points. Strong lines are the first seed, faint lines all other seeds;
grey dashed before, coloured after fine-tuning. FOMAML and Reptile adapt with their own inner step
size, joint training and the random initialization with the study's common one. Curves that leave
the axes have diverged; the legend counts the seeds whose predictions are not finite. An
illustration of one task and one draw of points, the same for all algorithms: no conclusion rests on
it. Where x has two coordinates the panels are maps of the first seed; circles are the sampled
points in the colour of their labels, the ends of the scale stand for all that lies beyond, and grey
for what is not finite.
"""

BEFORE: dict[str, Any] = {"linestyle": (0, (4, 1.5)), "linewidth": 1.2}
AFTER: dict[str, Any] = {"linestyle": "-", "linewidth": 1.6}

PANELS = {
    "truth": "ground truth",
    "before": "before fine-tuning",
    "after": "after fine-tuning",
}


def draw(tables: Tables, algorithm: str, protocol: str) -> Figure:
    """Draw an algorithm's published cell."""
    rows = tables.rows("showcase.csv", algorithm=algorithm, protocol=protocol)
    rows = rows[rows["cell"] == rows["cell"].min()]
    points = tables.rows("points.csv", protocol=protocol)
    style = tables.styles[algorithm]
    updates = tables.rows("adaptation.csv", protocol=protocol)["update"].max()
    title = f"{style.label}, {titled(protocol, f'protocol, {updates} updates')}"
    if "x" in rows:
        return _curves(rows, points, title, style.colour)
    return _maps(rows, points, title)


# One coordinate: curves of all seeds.


def _curves(rows: pd.DataFrame, points: pd.DataFrame, title: str, colour: str) -> Figure:
    """Draw the first seed in full, the others faint."""
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axes = figure.subplots()
    _predictions(axes, rows, "before", GREY, BEFORE)
    _predictions(axes, rows, "after", colour, AFTER)
    wave = rows[rows["seed"] == rows["seed"].min()]
    axes.plot(
        wave["x"],
        wave["truth"],
        color="black",
        linewidth=1,
        linestyle=(0, (1, 1)),
        label=PANELS["truth"],
    )
    axes.scatter(
        points["x"],
        points["y"],
        color="black",
        s=22,
        zorder=5,
        label=f"{len(points)} sampled points",
    )
    _dress(axes, wave)
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _predictions(
    axes: Axes, rows: pd.DataFrame, column: str, colour: str, look: dict[str, Any]
) -> None:
    first, lost = rows["seed"].min(), rows.loc[~np.isfinite(rows[column]), "seed"].nunique()
    label = PANELS[column]
    label += f"\n({lost} of {rows['seed'].nunique()} seeds diverged)" if lost else ""
    for seed, found in rows.groupby("seed"):
        if seed == first:
            axes.plot(found["x"], found[column], color=colour, label=label, zorder=4, **look)
        else:
            axes.plot(
                found["x"],
                found[column],
                color=colour,
                alpha=0.3,
                linewidth=0.6,
                linestyle=look["linestyle"],
            )


def _dress(axes: Axes, wave: pd.DataFrame) -> None:
    """Fit the axes to the wave: what leaves them by far has diverged."""
    most = 1.7 * wave["truth"].abs().max()
    axes.set_ylim(-most, most)
    axes.set_xlim(wave["x"].min(), wave["x"].max())
    axes.set_xlabel("x")
    axes.set_ylabel("y")


# Two coordinates: maps of the first seed.


def _maps(rows: pd.DataFrame, points: pd.DataFrame, title: str) -> Figure:
    """Draw truth and predictions in one scale of colours, which the truth fills."""
    first = rows[rows["seed"] == rows["seed"].min()]
    most = first["truth"].abs().max()
    scale = {"vmin": -most, "vmax": most, "cmap": "RdBu_r"}
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharex=True, sharey=True)
    for axes, (column, name) in zip(panels, PANELS.items(), strict=True):
        image = _map(axes, first, column, scale)
        axes.scatter(
            points["x1"], points["x2"], c=points["y"], s=26, edgecolors="black", zorder=5, **scale
        )
        axes.set_title(name)
        axes.set_xlabel("x1")
    panels[0].set_ylabel("x2")
    figure.suptitle(title, fontsize=8, x=0.01, ha="left")
    figure.colorbar(image, ax=panels, label="y", extend="both", shrink=0.9)
    return figure


def _map(axes: Axes, rows: pd.DataFrame, column: str, scale: dict[str, Any]) -> AxesImage:
    """Draw the values of a column over the plane, each in the middle of its pixel."""
    values = rows.pivot(index="x2", columns="x1", values=column)
    axes.set_facecolor(GREY)
    edges = (*_edges(values.columns), *_edges(values.index))
    return axes.imshow(values, origin="lower", extent=edges, aspect="equal", **scale)


def _edges(middles: pd.Index) -> tuple[float, float]:
    """Return where a row of pixels begins and ends."""
    half = (middles[-1] - middles[0]) / (len(middles) - 1) / 2
    return middles[0] - half, middles[-1] + half
