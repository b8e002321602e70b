"""Names of lines, each beside the end of its line as far as names do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import (
    BboxTransformTo,
    ScaledTranslation,
    blended_transform_factory,
)
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from metabench.views.drawing.medium import legend_beside, medium
from metabench.views.drawing.style import GREY

LEADING = 1.25
"""Height of a line of letters, as a multiple of their size."""

LEADER, SAMPLE, NAME = 0.16, (0.18, 0.31, 0.44), 0.52
"""Where the leader of a name ends, where a piece of its line is shown, and where the name begins.

All are inches to the right of the axes.
"""


class End(NamedTuple):
    """The end of a line that has a name.

    Args:
        line: The line.
        x: Where its leader begins: at the end of the line or at the bar of its interval.
        y: Its height there; infinite if it left the axis through the top.
    """

    line: Line2D
    x: float
    y: float


def name_ends(figure: Figure, axes: Axes, ends: Sequence[End]) -> None:
    """Write the names of the lines of the only panel beside their ends, or a legend below.

    The medium says whether there is room beside the panel.
    """
    if not medium().beside:
        legend_beside(figure, axes)
        return
    figure.draw_without_rendering()  # fits the panel into the figure; names change its width alone
    points = axes.get_window_extent().height * 72 / figure.dpi
    heights = np.array([_lines(end) for end in ends]) * medium().tick * LEADING / points
    wanted = np.array([_height(axes, end) for end in ends])
    for end, y, found in zip(ends, wanted, spread(wanted, heights), strict=True):
        _name(axes, figure, end, y, found)


def spread(wanted: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where to put things that want to be somewhere between 0 and 1 and may not overlap.

    The sum of squares of their distances from where they want to be is the least, by isotonic
    regression. What has no room between 0 and 1 reaches beyond 1.

    Args:
        wanted: The middle of each, ``(things,)``.
        heights: The height of each, ``(things,)``.

    Returns:
        The middle of each, ``(things,)``, in the order of `wanted`, and of the arguments if equal.
    """
    order = np.argsort(wanted, kind="stable")
    middles = np.cumsum(heights[order]) - heights[order] / 2  # if stacked from 0 without gaps
    most = max(1 - heights.sum(), 0)
    found = np.empty_like(wanted)
    found[order] = middles + np.clip(isotonic_regression(wanted[order] - middles).x, 0, most)
    return found


def _lines(end: End) -> int:
    """Return in how many lines of text a name stands."""
    return str(end.line.get_label()).count("\n") + 1


def _height(axes: Axes, end: End) -> float:
    """Return the height of an end as a fraction of the axes."""
    bottom, top = axes.get_ylim()
    y = min(max(end.y, bottom), top)
    return float(axes.transAxes.inverted().transform(axes.transData.transform((end.x, y)))[1])


def _name(axes: Axes, figure: Figure, end: End, y: float, found: float) -> None:
    """Write a name at a height, with a piece of its line and a leader from its end.

    The leader goes level to the border of the axes, and then to the name. An end above the axes has
    none.
    """
    inches = figure.dpi_scale_trans + ScaledTranslation(1, 0, BboxTransformTo(axes.bbox))
    beside = blended_transform_factory(inches, axes.transAxes)
    look: dict[str, Any] = {"clip_on": False, "zorder": 1.5}
    if end.y <= axes.get_ylim()[1]:
        thin = look | {"color": GREY, "linewidth": 0.4}
        level = blended_transform_factory(axes.transData, axes.transAxes)
        axes.plot([end.x, axes.get_xlim()[1]], [y, y], transform=level, **thin)
        axes.plot([0, LEADER], [y, found], transform=beside, **thin)
    sample = Line2D(SAMPLE, [found] * len(SAMPLE))
    sample.update_from(end.line)
    sample.set(markevery=[1], label="", transform=beside, **look)
    axes.add_artist(sample)
    axes.text(
        NAME,
        found,
        str(end.line.get_label()),
        transform=beside,
        va="center",
        fontsize=medium().tick,
        linespacing=1.0,
    )
