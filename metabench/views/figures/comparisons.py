"""Paired comparisons after each protocol's last update: differences of mean loss, and who wins how
often.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from metabench.views.figures.reading import Tables
from metabench.views.figures.style import GREY, WIDTH, compact, message

HEADINGS = {
    "published": "published cells",
    "selected": "cells selected on validation",
    "equal-budget": "against a cell at another's budget",
    "yardstick": "yardsticks",
}
"""Headings by role, in their order."""

DIFFERENCE = ("difference", "lower", "upper")
PROBABILITY = ("probability_of_improvement", "probability_lower", "probability_upper")
LINEAR, MOST = 0.01, 30.0
"""Differences are on a linear axis up to here, on a logarithmic one beyond, and named where larger
still.
"""

Row = Any
"""A heading (text), or a row of comparisons.csv."""


def draw(tables: Tables) -> Figure:
    """Draw a forest of all comparisons on the whole grid, in two panels, with the family's adjusted
    p values.
    """
    rows = layout(tables)
    if not rows:
        return message("This study has nothing to compare.")
    figure = Figure(figsize=(WIDTH, 0.9 + 0.17 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.6, 1])
    for axes, columns, neutral in ((left, DIFFERENCE, 0.0), (right, PROBABILITY, 0.5)):
        axes.axvline(neutral, color=GREY, linewidth=0.8)
        for place, row in enumerate(rows):
            if not isinstance(row, str):
                _draw(axes, tables, row, place, columns, neutral)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    _differences(left, tables, rows)
    _probabilities(right, rows)
    return figure


def layout(tables: Tables) -> list[Row]:
    """Return the figure's lines from top to bottom."""
    found: list[Row] = []
    table = tables.rows("comparisons.csv", region="all")
    for protocol in tables.protocols:
        for role, heading in HEADINGS.items():
            rows = table[(table["protocol"] == protocol) & (table["role"] == role)]
            if len(rows):
                rows = rows.assign(last=rows["step_b"] != "own").sort_values("last", kind="stable")
                found += [f"{protocol}: {heading}", *rows.itertuples()]
    return found


def _draw(
    axes: Axes, tables: Tables, row: Row, place: int, columns: tuple[str, str, str], neutral: float
) -> None:
    """Draw one estimate and interval, in the colour of the better side where the interval leaves
    the neutral value.
    """
    value, lower, upper = (float(getattr(row, column)) for column in columns)
    if not abs(value) <= MOST:
        _name_large(axes, place, value, lower, upper)
        return
    a_better = upper < neutral if neutral == 0 else lower > neutral
    b_better = lower > neutral if neutral == 0 else upper < neutral
    better = row.algorithm_a if a_better else row.algorithm_b if b_better else None
    colour = tables.styles[better].colour if better else GREY
    marker = tables.styles[better].marker if better else "o"
    ends = [[max(value - lower, 0)], [max(upper - value, 0)]]
    axes.errorbar(
        value, place, xerr=ends, fmt=marker, color=colour, capsize=1.5, elinewidth=1, markersize=4
    )


def _name_large(axes: Axes, place: int, value: float, lower: float, upper: float) -> None:
    """Say what does not fit: a difference ruled by diverged adaptations, or without a finite mean."""
    interval = f" [{compact(lower)}, {compact(upper)}]" if np.isfinite(lower) else ""
    text = (
        f"{compact(value)}{interval}".replace("-", "−")
        if np.isfinite(value)
        else "not finite: runs diverged"
    )
    axes.annotate(
        text, (0, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6
    )


def _name(tables: Tables, row: Row) -> str:
    """Spell a pair, the steps where they are not the cell's own, and a yardstick's cell if it is
    not published.
    """
    sides, published = [], set(tables.rows("cells.csv", role="published")["cell"])
    for side in "ab":
        algorithm, step = getattr(row, f"algorithm_{side}"), getattr(row, f"step_{side}")
        picked = (
            "selected, "
            if row.role == "yardstick" and getattr(row, f"cell_{side}") not in published
            else ""
        )
        note = f" ({picked}{step})" if step in ("common", "tuned") else ""
        note = " (eq. budget)" if side == "b" and row.role == "equal-budget" else note
        sides.append(tables.styles[algorithm].label + note)
    return " − ".join(sides)


def _differences(axes: Axes, tables: Tables, rows: list[Row]) -> None:
    axes.set_xscale("symlog", linthresh=LINEAR, linscale=1)
    ends = [
        abs(value) for row in rows if not isinstance(row, str) for value in (row.lower, row.upper)
    ]
    most = max([end for end in ends if end <= MOST], default=1) * 1.5
    axes.set_xlim(-most, most)
    for powers, minor in (
        ((0.1, 10.0), False),
        ((0.01, 1.0), True),
    ):  # labels at every second power have room
        axes.set_xticks(
            [sign * power for sign in (-1, 0, 1) for power in powers if power <= most], minor=minor
        )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−").replace("0.", "."))
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(
        range(len(rows)), [row if isinstance(row, str) else _name(tables, row) for row in rows]
    )
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        if isinstance(row, str):
            label.set_fontweight("bold")
    axes.set_xlabel("difference of mean MSE\n← first better   second better →")


def _probabilities(axes: Axes, rows: list[Row]) -> None:
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("P(first beats second)\n← second   first →")
    beside = axes.get_yaxis_transform()
    axes.text(1.04, -0.6, "p (Holm)", transform=beside, fontsize=7, va="bottom")
    for place, row in enumerate(rows):
        if not isinstance(row, str) and np.isfinite(row.p_holm):
            axes.text(1.04, place, f"{row.p_holm:.3f}", transform=beside, fontsize=7, va="center")
