"""Predictive distributions: how likely they make labels, and whether their intervals hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metabench.views.drawing.contenders import contenders
from metabench.views.drawing.medium import canvas, headline
from metabench.views.drawing.names import End, name_ends
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import GREY, Style, inches, titled

NAME = "predictive_{noisy}"
CATEGORY = "Predictive distributions"
CAPTION = """
Distributions of noisy labels after the protocol's last update, by the selected cell of each
algorithm that predicts a variance, and by baselines. Left: the mean negative log density of a
label, with its interval over seeds and tasks (over tasks alone for baselines); further left is
better. Right: the coverage of central intervals, which is the share of labels within them, minus
their level. On the dashed line the intervals hold, below it they are too narrow, and above it too
wide. Values beyond five times the width of the middle half are left out of the left axis and
marked by an arrow.
"""

LEVEL = "coverage_"
"""Prefix of the columns with the coverage of intervals; their level in percent follows."""

WIDE = 5
"""Values further than this many interquartile ranges from the least are beyond the axis."""


PANELS = 3.8
"""Inches of both panels, without the names beside them."""

LEAST = 0.05
"""The axis of coverage minus level reaches at least this far to both sides."""


def draw(tables: Tables, noisy: str) -> Figure:
    """Draw likelihoods beside calibration."""
    rows = _selected(tables, noisy)
    looks = [tables.styles[name] for name in rows["algorithm"]]
    names = max((inches(look.line) for look in looks), default=0)
    figure = canvas(max(2.6, 0.9 + 0.24 * len(rows)), least=2 * names + PANELS)
    likelihood, calibration = figure.subplots(1, 2, width_ratios=(1, 1.1))
    _likelihoods(likelihood, rows, looks)
    name_ends(figure, calibration, _coverage(calibration, rows, looks))
    headline(figure, titled(noisy, f"protocol: {tables.size(noisy)}"), x=0.01, ha="left")
    return figure


def _selected(tables: Tables, protocol: str) -> pd.DataFrame:
    """Return the rows of selected cells and of baselines, the most likely labels first."""
    rows = tables.rows("predictive.csv", protocol=protocol, region="all")
    chosen = [(side.algorithm, side.cell) for side in contenders(tables, protocol)]
    named = pd.MultiIndex.from_frame(rows[["algorithm", "cell"]]).isin(chosen)
    return rows[named | (rows["role"] == "baseline")].sort_values(["nll", "algorithm"])


def _likelihoods(axes: Axes, rows: pd.DataFrame, looks: list[Style]) -> None:
    """Draw the negative log likelihood of each row with its interval."""
    finite = rows["nll"][np.isfinite(rows["nll"])]
    low, high = np.quantile(finite, [0.25, 0.75]) if len(finite) else (0.0, 1.0)
    limit = rows["nll"].min() + WIDE * max(high - low, 0.05)
    for place, (row, look) in enumerate(zip(rows.itertuples(), looks, strict=True)):
        if not row.nll <= limit:
            axes.plot(limit, place, ">", color=look.colour, markersize=5, clip_on=False)
            continue
        ends = np.clip([row.nll_lower, row.nll_upper], None, limit)
        axes.plot(ends, [place, place], color=look.colour, linewidth=1.2)
        axes.plot(row.nll, place, marker=look.marker, color=look.colour, markersize=4.5)
    axes.set_yticks(range(len(rows)), [look.line for look in looks])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")
    axes.set_xlabel("negative log likelihood of a label")


def _coverage(axes: Axes, rows: pd.DataFrame, looks: list[Style]) -> list[End]:
    """Draw how far the coverage of central intervals is from their level, and return the ends."""
    columns = [name for name in rows if name.startswith(LEVEL)]
    levels = np.array([int(name.removeprefix(LEVEL)) / 100 for name in columns])
    gaps = rows[columns].to_numpy(float) - levels
    lowest, highest = gaps.min(initial=-LEAST), gaps.max(initial=LEAST)
    axes.axhline(0, color=GREY, linestyle=(0, (4, 1.5)), linewidth=1)
    ends = []
    for gap, look in zip(gaps, looks, strict=True):
        (drawn,) = axes.plot(
            levels,
            gap,
            label=look.line,
            color=look.colour,
            marker=look.marker,
            markersize=3.5,
            linewidth=1,
        )
        ends.append(End(drawn, levels[-1], gap[-1]))
    axes.set(xlim=(0, 1), ylim=(1.05 * lowest, 1.05 * highest))
    axes.set_xlabel("level of the interval")
    axes.set_ylabel("coverage minus level")
    return ends
