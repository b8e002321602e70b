"""Paired comparisons after each protocol's last update: differences, and who wins how often."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import GREY, WIDTH, compact, inches, message

NAME = "comparisons"
CATEGORY = "Comparisons"
CAPTION = """
Paired comparisons after the last update on the whole grid. Left: mean difference of the losses over
the same seeds and tasks, with its interval; the axis is linear up to 0.01 on either side of zero
and logarithmic beyond. A difference too large for the axis is written out: there a few diverged
adaptations dominate the mean. Right: probability that the first of the pair has the smaller loss on a
randomly chosen seed and task, ties counting one half, with its interval. Intervals are over seeds
and tasks together (95 % unless the study asks for another level).

A point has the colour and marker of the better side where its interval leaves out no difference (0,
or 50 %), and is grey otherwise. The two panels may disagree: the mean is dominated by the
largest losses, the probability by the typical task. The best baseline is the one that the validation bank
chooses.

The last column belongs to the family of tests declared beforehand: exact sign-flip tests of the
differences per seed, adjusted by Holm's method. The least value it can take is set by the number of
seeds.
"""

HEADINGS = {
    "published": "published cells",
    "selected": "cells selected on validation",
    "equal-budget": "against a cell at another's budget",
    "yardstick": "yardsticks",
}
"""Headings by role, in their order."""

DIFFERENCE = ("difference", "lower", "upper")
PROBABILITY = ("probability_of_improvement", "probability_lower", "probability_upper")
LINEAR = 0.01
"""Differences are on a linear axis up to here, and on a logarithmic one beyond."""

MOST = 30.0
"""Differences are written out beyond."""

ROOM = 3.7
"""Inches that a figure of the usual width has for labels; longer ones make it wider."""

Row = Any
"""A heading (text), or a row of comparisons.csv."""


def draw(tables: Tables) -> Figure:
    """Draw a forest of all comparisons on the whole grid, with the family's adjusted p values."""
    rows = layout(tables)
    if not rows:
        return message("This study has nothing to compare.")
    labels = [_label(tables, row) for row in rows]
    width = WIDTH + max(max(map(inches, labels)) - ROOM, 0)
    figure = Figure(figsize=(width, 0.9 + 0.17 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.6, 1])
    for axes, columns, neutral in ((left, DIFFERENCE, 0.0), (right, PROBABILITY, 0.5)):
        axes.axvline(neutral, color=GREY, linewidth=0.8)
        for place, row in enumerate(rows):
            if not isinstance(row, str):
                _draw(axes, tables, row, place, columns, neutral)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    _differences(left, rows, labels)
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


def _label(tables: Tables, row: Row) -> str:
    """Spell a heading, or a pair, in one line."""
    if isinstance(row, str):
        return row
    sides = [tables.styles[getattr(row, f"algorithm_{side}")].label for side in "ab"]
    notes = [_note(tables, row, side) for side in "ab"]
    spelled = [label.replace("\n", "") + note for label, note in zip(sides, notes, strict=True)]
    return " − ".join(spelled)


def _note(tables: Tables, row: Row, side: str) -> str:
    """Say what is special of one side of a pair.

    Its step, if it is not its own; that a yardstick's cell was selected, if it is not published.
    """
    if side == "b" and row.role == "equal-budget":
        return " (eq. budget)"
    step = getattr(row, f"step_{side}")
    if step not in ("common", "tuned"):
        return ""
    named = {"algorithm": getattr(row, f"algorithm_{side}"), "cell": getattr(row, f"cell_{side}")}
    published = len(tables.rows("cells.csv", role="published", **named)) > 0
    picked = "" if published or row.role != "yardstick" else "selected, "
    return f" ({picked}{step})"


def _draw(
    axes: Axes, tables: Tables, row: Row, place: int, columns: tuple[str, str, str], neutral: float
) -> None:
    """Draw one estimate and interval.

    It has the colour of the better side where the interval leaves the neutral value out.
    """
    value, lower, upper = (float(getattr(row, column)) for column in columns)
    if not abs(value) <= MOST:
        _name_large(axes, place, value, lower, upper)
        return
    better = _better(row, lower, upper, neutral)
    colour = tables.styles[better].colour if better else GREY
    marker = tables.styles[better].marker if better else "o"
    ends = [[max(value - lower, 0)], [max(upper - value, 0)]]
    axes.errorbar(
        value, place, xerr=ends, fmt=marker, color=colour, capsize=1.5, elinewidth=1, markersize=4
    )


def _better(row: Row, lower: float, upper: float, neutral: float) -> str | None:
    """Return the algorithm that is better, if the interval leaves the neutral value out."""
    below, above = upper < neutral, lower > neutral
    # Where the first is better, a difference of losses is below 0, but a probability above a half.
    first, second = (below, above) if neutral == 0 else (above, below)
    if first:
        return str(row.algorithm_a)
    return str(row.algorithm_b) if second else None


def _name_large(axes: Axes, place: int, value: float, lower: float, upper: float) -> None:
    """Write out a difference that does not fit, or that there is no finite mean."""
    if np.isfinite(value):
        interval = f" [{compact(lower)}, {compact(upper)}]" if np.isfinite(lower) else ""
        text = f"{compact(value)}{interval}".replace("-", "−")
    else:
        text = "not finite: runs diverged"
    axes.annotate(
        text, (0, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6
    )


def _differences(axes: Axes, rows: list[Row], labels: list[str]) -> None:
    """Give the panel of differences its axes and labels."""
    axes.set_xscale("symlog", linthresh=LINEAR, linscale=1)
    most = 1.5 * _largest(rows)
    axes.set_xlim(-most, most)
    # Labels at every second power of ten have room.
    axes.set_xticks(_powers(most, (0.1, 10.0)))
    axes.set_xticks(_powers(most, (0.01, 1.0)), minor=True)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _spelled(value)))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), labels)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        if isinstance(row, str):
            label.set_fontweight("bold")
    axes.set_xlabel("difference of mean MSE\n← first better   second better →")


def _largest(rows: list[Row]) -> float:
    """Return the largest end of an interval that is on the axis, which is never all linear."""
    pairs = [row for row in rows if not isinstance(row, str)]
    ends = np.abs([(row.lower, row.upper) for row in pairs])
    shown = ends[ends <= MOST]
    return max(float(shown.max()), 10 * LINEAR) if len(shown) else 1.0


def _powers(most: float, powers: tuple[float, ...]) -> list[float]:
    """Return powers of ten on both sides of zero that are on the axis."""
    return [sign * power for sign in (-1, 0, 1) for power in powers if power <= most]


def _spelled(value: float) -> str:
    """Spell a difference on the axis in few letters."""
    return f"{value:g}".replace("-", "−").replace("0.", ".")


def _probabilities(axes: Axes, rows: list[Row]) -> None:
    """Give the panel of probabilities its axis and the adjusted p values beside it."""
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("P(first beats second)\n← second   first →")
    beside = axes.get_yaxis_transform()
    axes.text(1.04, -0.6, "p (Holm)", transform=beside, fontsize=7, va="bottom")
    for place, row in enumerate(rows):
        if not isinstance(row, str) and np.isfinite(row.p_holm):
            axes.text(1.04, place, f"{row.p_holm:.3f}", transform=beside, fontsize=7, va="center")
