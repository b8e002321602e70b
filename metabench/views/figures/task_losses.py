"""How the final losses spread over tasks: their empirical distribution functions."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from metabench.views.figures.curves import FAR, ceiling
from metabench.views.figures.lines import Line, lines, without_marker
from metabench.views.figures.reading import Tables
from metabench.views.figures.style import LOSS, WIDTH, loss_axis

SHARES = np.arange(1, 401) / 400
"""Where a distribution function is drawn: a step for each of 10 000 losses would make a large file.
"""

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
    axes.set_title(f"{protocol} protocol: {tables.size(protocol)}{tables.note}")
    figure.legend(loc="outside right upper")
    return figure


def quantiles(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the losses at `SHARES`, an infinite one counting as the largest."""
    return np.quantile(losses, SHARES, method="inverted_cdf")


def _ends(found: list[NDArray[np.float64]], most: float) -> NDArray[np.float64]:
    """Return the ends of the loss axis."""
    values = np.concatenate([losses[FIRST - 1 :] for losses in found])
    known = values[values < min(most, FAR)]
    if not len(known):
        return np.array([0.1, 10.0])
    return np.array(
        [known.min(), most if np.isfinite(most) and values.max() > most else known.max()]
    )


def _draw(axes: Axes, line: Line, losses: NDArray[np.float64], right: float) -> None:
    """Draw one line; it stays below 100 % where losses are off the axis, infinite ones included."""
    values = quantiles(losses)
    off = np.mean(losses > right)
    label = line.label + (
        f"\n({'<0.1' if off < 0.0005 else f'{100 * off:.1f}'} % off the axis)" if off else ""
    )
    known = values < FAR
    x, y = [*values[known], FAR], [*SHARES[known], SHARES[known].max(initial=0)]
    axes.plot(x, y, label=label, drawstyle="steps-post", **without_marker(line.look))
