"""One wave before and after fine-tuning, as the source shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import GREY, titled

NAME = "showcase_{algorithm}_{protocol}"
CATEGORY = "Showcase"
CAPTION = """
One wave before and after fine-tuning, as the source of the study shows it: the published cell's
prediction from the sampled points. Strong lines are the first seed, faint lines all other seeds;
grey dashed before, coloured after fine-tuning. FOMAML and Reptile adapt with their own inner step
size, joint training and the random initialization with the study's common one. Curves that leave
the axes have diverged; the legend counts the seeds whose predictions are not finite. An
illustration of one task and one draw of points, the same for all algorithms: no conclusion rests on
it.
"""

BEFORE: dict[str, Any] = {"linestyle": (0, (4, 1.5)), "linewidth": 1.2}
AFTER: dict[str, Any] = {"linestyle": "-", "linewidth": 1.6}


def draw(tables: Tables, algorithm: str, protocol: str) -> Figure:
    """Draw an algorithm's published cell: the first seed in full, the others faint."""
    rows = tables.rows("showcase.csv", algorithm=algorithm, protocol=protocol)
    rows = rows[rows["cell"] == rows["cell"].min()]
    points = tables.rows("points.csv", protocol=protocol)
    style = tables.styles[algorithm]
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axes = figure.subplots()
    _predictions(axes, rows, "before", "before fine-tuning", GREY, BEFORE)
    _predictions(axes, rows, "after", "after fine-tuning", style.colour, AFTER)
    wave = rows[rows["seed"] == rows["seed"].min()]
    axes.plot(
        wave["x"],
        wave["truth"],
        color="black",
        linewidth=1,
        linestyle=(0, (1, 1)),
        label="ground truth",
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
    updates = tables.rows("adaptation.csv", protocol=protocol)["update"].max()
    axes.set_title(f"{style.label}, {titled(protocol, f'protocol, {updates} updates')}")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _predictions(
    axes: Axes, rows: pd.DataFrame, column: str, label: str, colour: str, look: dict[str, Any]
) -> None:
    first, lost = rows["seed"].min(), rows.loc[~np.isfinite(rows[column]), "seed"].nunique()
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
    axes.set_xlim(-5.5, 5.5)
    axes.set_xlabel("x")
    axes.set_ylabel("y")
