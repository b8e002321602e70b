"""How the final losses spread over tasks: their empirical distribution functions."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from metabench.views.drawing.curves import FAR, ceiling
from metabench.views.drawing.lines import Line, lines, without_marker
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import LOSS, NO_LOSS, WIDTH, loss_axis, titled

NAME = "task_losses_{protocol}"
CATEGORY = "Task losses"
CAPTION = """
Empirical distribution functions of the loss after the last update: the share of all adaptations
(every seed on every test task; every task for the baselines) that end at or below each loss.
Further left is better. The title says how many seeds and tasks there are; no interval is drawn.

Solid lines are the published cells, dashed ones the cells that validation selects where those are
others. Joint training and the random initialization adapt with a step size tuned on the validation
bank. Losses off the axis, which ends at ten times the zero predictor's mean loss, and infinite ones
count: a line with such losses stays below 100 %, and the legend gives their share. A line begins
above 0 % where some losses are exactly 0. Least squares on sine and cosine scores 0 up to rounding
and is not drawn.
"""

SHARES = np.arange(1, 401) / 400
"""Where a distribution function is drawn; a step for each of 10 000 losses makes a large file."""

FIRST = 4
"""The axis begins where the first line reaches this place in `SHARES`, 1 %."""


def draw(tables: Tables, protocol: str) -> Figure:
    """Draw the share of all adaptations, over seeds and tasks, that end at or below each loss."""
    table = tables.rows("tasks.parquet", protocol=protocol, region="all")
    found = lines(tables, protocol, steps=("own", "tuned"))
    losses = [line.of(table)["loss"].to_numpy(dtype=float) for line in found]
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    ends = _ends([quantiles(values) for values in losses], ceiling(tables.zero(protocol)))
    loss_axis(axes, "x", ends, margin=1)
    for line, values in zip(found, losses, strict=True):
        _draw(axes, line, values, ends[1])
    updates = tables.rows("adaptation.csv", protocol=protocol)["update"].max()
    axes.set_ylim(0, 1.01)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(f"{LOSS} after {updates} updates")
    axes.set_ylabel("adaptations at or below this loss")
    axes.set_title(titled(protocol, f"protocol: {tables.size(protocol)}{tables.note}"))
    figure.legend(loc="outside right upper")
    return figure


def quantiles(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the losses at `SHARES`, an infinite one counting as the largest."""
    return np.quantile(losses, SHARES, method="inverted_cdf")


def _ends(found: list[NDArray[np.float64]], most: float) -> NDArray[np.float64]:
    """Return the ends of the loss axis."""
    values = np.concatenate([losses[FIRST - 1 :] for losses in found])
    known = values[(values > 0) & (values < min(most, FAR))]
    if not len(known):
        return NO_LOSS
    beyond = np.isfinite(most) and values.max() > most
    return np.array([known.min(), most if beyond else known.max()])


def _draw(axes: Axes, line: Line, losses: NDArray[np.float64], right: float) -> None:
    """Draw one line; it stays below 100 % where losses are off the axis, infinite ones included."""
    values = quantiles(losses)
    known = values < FAR
    x, y = [*values[known], FAR], [*SHARES[known], SHARES[known].max(initial=0)]
    label = line.label + _off_axis(float(np.mean(losses > right)))
    axes.plot(x, y, label=label, drawstyle="steps-post", **without_marker(line.look))


def _off_axis(share: float) -> str:
    """Say which share of the losses is off the axis, in a line of its own."""
    if share == 0:
        return ""
    spelled = "<0.1" if share < 0.0005 else f"{100 * share:.1f}"
    return f"\n({spelled} % off the axis)"
