"""Published numbers against ours, a row for each, on one logarithmic axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metabench.views.drawing.medium import canvas
from metabench.views.drawing.style import GREY, compact, loss_axis

OURS = {"reproduced": "#009E73", "better": "#0072B2", "worse": "#D55E00", "not comparable": GREY}
"""Colour of our number by verdict."""


MOST = 10.0
"""Losses above are written at the right end of the axis."""


def draw(found: pd.DataFrame) -> Figure:
    """Draw a table of `metabench.views.literature`.

    Open circles are published, filled ones ours, bars their intervals.
    """
    figure = canvas(1.2 + 0.2 * len(found), least=8)
    axes = figure.subplots()
    for place, row in enumerate(found.itertuples()):
        _point(
            axes,
            place - 0.14,
            row.published,
            (row.published_lower, row.published_upper),
            "black",
            "white",
        )
        colour = OURS[row.verdict]
        _point(axes, place + 0.14, row.ours, (row.ours_lower, row.ours_upper), colour, colour)
        if row.ours > MOST:
            text = f"{compact(row.ours)} →"
            axes.text(2 * MOST, place + 0.14, text, color=colour, ha="right", va="center")
    columns = [
        "published",
        "published_lower",
        "published_upper",
        "ours",
        "ours_lower",
        "ours_upper",
    ]
    known = found[columns].to_numpy(dtype=float)
    loss_axis(axes, "x", np.append(known[known <= MOST], 2 * MOST))
    axes.set_yticks(range(len(found)), [_label(row) for row in found.itertuples()])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.grid(axis="y", linewidth=0.4, alpha=0.4)
    axes.set_xlabel("mean squared error")
    marks = [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="",
            color="black",
            markerfacecolor="white",
            label="published",
        )
    ]
    marks += [
        Line2D([], [], marker="o", linestyle="", color=colour, label=f"ours: {verdict}")
        for verdict, colour in OURS.items()
        if verdict in set(found["verdict"])
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=5)
    return figure


def _point(
    axes: Axes, place: float, value: float, ends: tuple[float, float], colour: str, face: str
) -> None:
    if np.isfinite(ends).all():
        axes.plot(ends, [place, place], color=colour, linewidth=1)
    axes.plot(value, place, "o", color=colour, markerfacecolor=face, markersize=4)


def _label(row: Any) -> str:
    """Format a row: source, setting, method, shots of training and test, and steps."""
    source = row.source.split(",")[0]
    steps = "1 step" if row.update == 1 else f"{row.update} steps"
    return f"{source} ({row.setting}): {row.method}, {row.trained}/{row.tested} shots, {steps}"
