"""Loss against updates on one pair of axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from metabench.views.drawing.lines import Line, lines, without_marker
from metabench.views.drawing.names import End
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import loss_axis

CEILING = 10
"""Losses above this multiple of the zero predictor's are off the axis.

Such an adaptation counts as diverged.
"""

FAR = 1e40
"""Stands for an infinite loss, so that the line leaves the axis through its top."""

BARS = 0.025
"""Distance between two bars, as a fraction of the axis."""

MARKS = 8
"""Approximate number of markers on a line."""

ARROW = 0.04
"""Distance between two arrows, as a fraction of the axis."""

LEADER: dict[str, Any] = {"linestyle": "-", "linewidth": 0.4, "alpha": 0.6, "zorder": 1.5}
"""Style of what leads from a line to its interval."""

FLAT: dict[str, Any] = {"linestyle": (0, (8, 2)), "linewidth": 0.9, "markevery": [-1]}
"""Style of the line of a trained method that takes no steps: only its end has a marker."""

INTERVALS = {
    False: """
Bands are intervals over seeds and tasks together (crossed design; 95 % unless the study sets a
different level). Bars at the right are the intervals of what takes no gradient steps: of baselines
over tasks alone, of methods and predictions with seeds over these too.
Thin lines lead to them.
""",
    True: """
Bars at the right are the intervals after the last update, the best score first: over seeds and
tasks together (crossed design; 95 % unless the study sets a different level), of baselines over
tasks alone. Each has the mark of its line, and a thin line leads to it.
""",
}
"""What a caption says of the intervals, by whether bands would hide each other."""

SEEDS = {
    False: "Faint lines are the seeds, strong lines their mean.",
    True: "Lines are means over the seeds.",
}
"""What a caption says of lines of training, by whether the lines of seeds would hide each other."""


def curves(axes: Axes, tables: Tables, protocol: str, region: str, statistic: str) -> list[End]:
    """Draw every line of a protocol and region.

    Bands are the table's intervals. If bands would hide each other, only the interval of the last
    update is drawn, as a bar to its right; so are the intervals of what takes no steps.

    Returns:
        Where each line ends, or the bar of its interval.
    """
    table = tables.rows("adaptation.csv", protocol=protocol, region=region)
    last, most = int(table["update"].max()), ceiling(tables.zero(protocol, statistic, region))
    most = 1.0 if statistic == "score" else most
    shown = [(line, line.of(table)) for line in lines(tables, protocol)]
    ends: list[End] = []
    bars, above, below = 0, 0, 0
    for line, rows in shown:
        drawn = _draw(axes, line, rows, statistic, last)
        bar = tables.crowded or line.step == "none" or takes_no_steps(rows)
        if not bar:
            _band(axes, line, rows, statistic)
        losses = rows[statistic].to_numpy(dtype=float)
        above += _mark(axes, line, rows, ~(losses <= most) | np.isinf(losses), "up", above)
        below += _mark(axes, line, rows, losses == 0, "down", below)
        end: float = last
        if bar:
            end = _bar(axes, line, rows, statistic, last, last * (1.02 + BARS * bars))
            bars += 1
        ends.append(End(drawn, end, np.asarray(drawn.get_ydata())[-1].item()))
    _style_axes(axes, pd.concat(rows for _, rows in shown), statistic, most)
    axes.set_xlim(0, last * (1.03 + BARS * bars))
    axes.set_xticks(_ticks(last))
    axes.spines["bottom"].set_bounds(0, last)
    middle = 0.5 * last / axes.get_xlim()[1]
    axes.set_xlabel("updates (gradient steps on the support set)", x=middle)
    return ends


def takes_no_steps(rows: pd.DataFrame) -> bool:
    """Return whether a method predicts from the support points at once, and takes no steps.

    Its predictions after the first update are then those after every other. So are those of a cell
    whose adaptations all diverged, but its losses are infinite.
    """
    after = rows.sort_values("update")[["mean", "median", "score"]].iloc[1:]
    return len(after) > 1 and bool(
        np.isfinite(after).all(axis=None) and (after.nunique() == 1).all()
    )


def ceiling(zero: float) -> float:
    """Return the largest loss to show, given the zero predictor's, if there is one."""
    return CEILING * zero if np.isfinite(zero) and zero > 0 else np.inf


def _style_axes(axes: Axes, rows: pd.DataFrame, statistic: str, most: float) -> None:
    """Fit the loss axis to all losses and intervals that are not too large."""
    columns = [statistic, f"{statistic}_lower", f"{statistic}_upper"]
    losses = rows[columns].to_numpy(float)
    loss_axis(axes, "y", losses[losses <= most])


def _ticks(last: int) -> list[int]:
    """Return ticks of updates: equal parts up to the last one, else round numbers."""
    for parts in (8, 7, 6, 5, 4):
        if last % parts == 0:
            return [last * n // parts for n in range(parts + 1)]
    ticks = MaxNLocator(8, integer=True).tick_values(0, last)
    return [int(tick) for tick in ticks if 0 <= tick <= last]


def _draw(axes: Axes, line: Line, rows: pd.DataFrame, statistic: str, last: int) -> Line2D:
    """Draw one line, and return it."""
    x, y = rows["update"].to_numpy(), rows[statistic].to_numpy(dtype=float)
    y = np.where(np.isfinite(y), y, FAR)
    if line.step == "none":
        x, y, label, look = [0, last], y[[-1, -1]], line.label, without_marker(line.look)
    elif takes_no_steps(rows):
        x, y, label, look = [0, last], y[[-1, -1]], f"{line.label}, no steps", line.look | FLAT
    else:
        label, look = _label(line, rows), line.look | {"markevery": max(1, last // MARKS)}
    (drawn,) = axes.plot(x, y, label=label, **look)
    return drawn


def _band(axes: Axes, line: Line, rows: pd.DataFrame, statistic: str) -> None:
    """Draw the intervals of a statistic."""
    ends = rows[f"{statistic}_lower"], rows[f"{statistic}_upper"]
    axes.fill_between(rows["update"], *ends, color=line.look["color"], alpha=0.15, linewidth=0)


def _bar(axes: Axes, line: Line, rows: pd.DataFrame, statistic: str, last: int, x: float) -> float:
    """Draw the interval of the last update at x, and a thin line to it from the end of its line.

    It has the marker of its line, so that it is found without colours.

    Returns:
        Where what was drawn ends: x, or the last update if there is no interval.
    """
    y, lower, upper = (float(rows[statistic + end].iloc[-1]) for end in ("", "_lower", "_upper"))
    if not np.isfinite([lower, upper]).all():
        return last
    ends = [[y - lower], [upper - y]]
    colour = line.look["color"]
    marker = "none" if line.step == "none" else line.look["marker"]
    axes.plot([last, x], [y, y], color=colour, **LEADER)
    look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3}
    axes.errorbar(x, y, ends, linestyle="none", capsize=1.5, elinewidth=1, **look)
    return x


def _label(line: Line, rows: pd.DataFrame) -> str:
    """Write how many adaptations diverged."""
    share = float(rows["diverged_share"].iloc[-1])
    if share == 0:
        return line.label
    percent = "<0.1" if share < 0.0005 else f"{100 * share:.1f}"
    return f"{line.label}\n({percent} % diverged)"


def _mark(
    axes: Axes, line: Line, rows: pd.DataFrame, off: NDArray[np.bool_], way: str, place: int
) -> bool:
    """Mark the first update whose loss is off the axis, and return whether there is one.

    Args:
        axes: The axes to draw on.
        line: The line.
        rows: Its rows.
        off: Which of them are off the axis, ``(update,)``.
        way: Where the line leaves the axis: up, or down where a loss is exactly 0.
        place: Number of lines that already left it this way; their arrows are drawn side by side.
    """
    if not off.any():
        return False
    height = 0.97 - ARROW * place if way == "up" else 0.03 + ARROW * place
    arrow(axes, rows.loc[off, "update"].iloc[0], height, way, line.look["color"])
    return True


def arrow(axes: Axes, x: float, height: float, way: str, colour: str) -> None:
    """Draw the arrow of a line that leaves the axis at x, up or down.

    Args:
        axes: The axes to draw on.
        x: Where the line leaves.
        height: Height of the arrow, as a fraction of the axis.
        way: up or down.
        colour: Colour of the line.
    """
    axes.plot(
        [x],
        [height],
        marker=rf"$\{way}arrow$",
        markersize=7,
        linestyle="",
        clip_on=False,
        color=colour,
        transform=axes.get_xaxis_transform(),
    )
