"""Validation loss in training, against meta-iterations and three measures of cost."""

from __future__ import annotations

from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from metabench.analysis.columns import judged
from metabench.views.drawing.curves import arrow
from metabench.views.drawing.medium import canvas, in_lines, legend_below, message
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import Style, loss_axis

NAME = "validation_curves"
CATEGORY = "Training"
CAPTION = """
Mean loss on the validation bank during training, after the last update of the study's validation
protocol; against meta-iterations and against their cost: tasks drawn, gradients of one task's loss,
and points whose gradient was computed (the unit of the budget). All axes are logarithmic; lines
begin at the first validation after the start.

{seeds} There is no interval. Solid lines are the
published cells, or the selected cells if an algorithm has none or if the study has many algorithms.
Dashed lines are cells that train until another algorithm's budget of point-gradients is spent; they
start like the published cell and continue it. Further cells of an algorithm have dots in their
lines; the legend names them, or the protocol for which each is selected. The dotted line is the
initialization without training. Curves leave the axis above 30 times their median first loss; an
arrow marks where a mean first does or is infinite, and what follows is thin. If a seed diverges, a
cross marks its last finite loss, at the upper edge if it is above. From there on the mean is
infinite, because no seed is left out of it; the legend counts such seeds.
"""

SPENT = {
    "meta_iteration": "meta-iterations",
    "tasks_seen": "tasks seen",
    "gradient_evaluations": "gradient evaluations",
    "point_gradients": "point-gradients",
}

LOOKS: dict[str, dict[str, Any]] = {
    "published": {"linestyle": "-", "linewidth": 1.5},
    "selected": {"linestyle": "-", "linewidth": 1.5},
    "equal-budget": {"linestyle": (0, (3, 1)), "linewidth": 1.5},
}

MORE = ((0, (6, 1, 1, 1)), (0, (6, 1, 1, 1, 1, 1)), (0, (1, 1)))
"""Dash patterns of further cells of a role and algorithm."""

MARKS = 5
"""Number of markers on a line as long as the diagonal of its panel."""

HIGH = 30
"""Limit of the axis, as a multiple of the curves' median first loss."""

WIDE = 0.035
"""Distance between two arrows, as a share of the axis."""

FAINT: dict[str, Any] = {"alpha": 0.2, "linewidth": 0.5, "zorder": 1.5}
UNTRAINED: dict[str, Any] = {"linestyle": (0, (1, 1)), "linewidth": 1.2}


class Cell(NamedTuple):
    """A cell that is drawn.

    Args:
        role: Its role, one of `LOOKS`.
        label: What the legend calls it.
        dash: The dash pattern of its line.
        style: Style of its algorithm.
        rows: Its rows of history.csv.
    """

    role: str
    label: str
    dash: Any
    style: Style
    rows: pd.DataFrame


def draw(tables: Tables) -> Figure:
    """Draw the published or selected cells, and those with another algorithm's budget."""
    cells = _cells(tables)
    if not cells:
        return message("No algorithm of this study has a cell to show.")
    figure = canvas(4.6)
    panels = figure.subplots(2, 2, sharey=True)
    most = _most(cells)
    for axes, (column, label) in zip(panels.flat, SPENT.items(), strict=True):
        for n, cell in enumerate(cells):
            # Many algorithms leave no room for the lines of single seeds.
            _draw(axes, cell, column, most, seeds=not tables.crowded, first=n / len(cells))
        _fit_losses(axes, most)
        spent = [np.asarray(cell.rows[column], dtype=float) for cell in cells]
        _fit_cost(axes, np.concatenate(spent), label)
        _arrows(axes, cells, column, most)
    for axes in panels[:, 0]:
        axes.set_ylabel("validation MSE")
    legend_below(figure, panels[0, 0], 4 if tables.crowded else 3)
    return figure


def _most(cells: list[Cell]) -> float:
    """Return the largest loss on the axis: a multiple of the median first loss of the cells.

    That of a cell is at its first validation in training, or before it if it is infinite there.
    """
    first = []
    for cell in cells:
        mean = _wide(cell, "meta_iteration").mean(axis=1).iloc[1::-1]
        first += list(mean[np.isfinite(mean)].iloc[:1])
    return float(HIGH * np.median(first)) if first else np.inf


def _cells(tables: Tables) -> list[Cell]:
    """Return the cells that are drawn, those with another algorithm's budget last."""
    found = []
    for algorithm in tables.every_algorithm:
        for role, notes in _drawn(tables, algorithm).items():
            dashes = [LOOKS[role]["linestyle"], *MORE]
            for (name, note), dash in zip(notes.items(), cycle(dashes), strict=False):
                rows = tables.rows("history.csv", algorithm=algorithm, cell=name)
                style = tables.styles[algorithm]
                given = "" if role == "published" or tables.crowded else f", {role}"
                label = in_lines(style.label + given + (note if len(notes) > 1 else ""))
                found.append(Cell(role, label, dash, style, rows))
    return sorted(found, key=lambda cell: cell.role == "equal-budget")


def _drawn(tables: Tables, algorithm: str) -> dict[str, dict[str, str]]:
    """Return the cells of an algorithm that are drawn, by role, and what tells them apart."""
    cells = tables.rows("cells.csv", algorithm=algorithm)
    found = {role: cells[cells["role"] == role]["cell"] for role in LOOKS}
    notes = {role: {name: f": {name}" for name in names} for role, names in found.items()}
    if tables.crowded or not notes["published"]:
        notes["published"] = {}
        notes["selected"] = _selected(tables, algorithm)
    return notes


def _selected(tables: Tables, algorithm: str) -> dict[str, str]:
    """Return the cells that validation selects, and under which protocols."""
    rows = judged(tables.rows("selection.csv", algorithm=algorithm))
    rows = rows[rows["selected"].astype(bool) & rows["protocol"].isin(tables.fields.protocol)]
    protocols = rows.groupby("cell", sort=False)["protocol"].unique()
    return {str(cell): f" ({', '.join(names)})" for cell, names in protocols.items()}


def _wide(cell: Cell, column: str) -> pd.DataFrame:
    """Return the losses of a cell, a row for each cost and a column for each seed."""
    return cell.rows.pivot(index=column, columns="seed", values="validation_loss")


def _leaves(mean: pd.Series, most: float) -> int:
    """Return the position of the first mean that is not on the axis, or their number."""
    off = np.flatnonzero(~(mean <= most))
    return int(off[0]) if len(off) else len(mean)


def _draw(axes: Axes, cell: Cell, column: str, most: float, seeds: bool, first: float) -> None:
    """Draw a cell's loss against its cost, from the first validation in training.

    A faint line is a seed, a strong one their mean; what follows after it has left the axis is as
    faint, so that it hides no other. A cross marks where a seed's loss stops being finite.

    Args:
        axes: The axes to draw on.
        cell: The cell.
        column: The cost.
        most: The largest loss on the axis.
        seeds: Whether to draw the seeds.
        first: Place of the first marker, as a share of the distance to the next.
    """
    wide = _wide(cell, column)
    mean, colour, label = wide.mean(axis=1), cell.style.colour, _label(cell, wide)
    if len(wide) == 1:
        axes.axhline(mean.iloc[0], color=colour, label=f"{label} (untrained)", **UNTRAINED)
        return
    wide, mean = wide.iloc[1:], mean.iloc[1:]
    if seeds:
        axes.plot(wide.index, wide.mask(~np.isfinite(wide)), color=colour, **FAINT)
    known, end = mean.mask(~np.isfinite(mean)), _leaves(mean, most)
    strong, rest = known.iloc[: end + 1], known.iloc[end + 1 :]
    # As shares of the diagonal, since points come closer and closer on a logarithmic axis. Without
    # any point matplotlib cannot place them.
    every = (first / MARKS, 1 / MARKS) if strong.notna().any() else None
    marks: dict[str, Any] = {"marker": cell.style.marker, "markevery": every}
    look = {**LOOKS[cell.role], "linestyle": cell.dash}
    axes.plot(strong.index, strong, color=colour, label=label, **marks, **look)
    if len(rest):
        axes.plot(rest.index, rest, color=colour, **FAINT)
    _crosses(axes, wide, colour, most)


def _label(cell: Cell, wide: pd.DataFrame) -> str:
    """Label a cell, including what the axis does not show."""
    last, label = wide.iloc[-1], cell.label
    if lost := int((~np.isfinite(last)).sum()):
        label += f"\n({lost} of {wide.shape[1]} seeds diverged)"
    return label + ("\n(0 at the end)" if (last == 0).all() else "")


def _crosses(axes: Axes, wide: pd.DataFrame, colour: str, most: float) -> None:
    """Mark the last finite loss of each seed that has diverged by the end."""
    for seed in wide:
        if not np.isfinite(wide[seed].iloc[-1]):
            known = wide[seed][np.isfinite(wide[seed])].iloc[-1:].clip(upper=most)
            axes.plot(known.index, known, "x", color=colour, markersize=6, markeredgewidth=1.5)


def _arrows(axes: Axes, cells: list[Cell], column: str, most: float) -> None:
    """Mark where the mean of each cell leaves the axis; arrows of one place are side by side."""
    means = [(cell, _wide(cell, column).mean(axis=1).iloc[1:]) for cell in cells]
    leaving = [
        (mean.index[end], cell.style.colour)
        for cell, mean in means
        if (end := _leaves(mean, most)) < len(mean)
    ]
    low, high = axes.get_xlim()
    free = 0.0
    for x, colour in sorted(leaving):
        place = np.log(x / low) / np.log(high / low)
        shown = x if place >= free else low * (high / low) ** free
        arrow(axes, shown, 1.04, "up", colour)
        free = max(place, free) + WIDE


def _fit_losses(axes: Axes, most: float) -> None:
    """Fit the vertical axis to the lines."""
    losses = np.concatenate([line.get_ydata() for line in axes.get_lines()]).astype(float)
    loss_axis(axes, "y", losses[losses <= most])


def _fit_cost(axes: Axes, spent: NDArray[np.float64], label: str) -> None:
    """Fit the horizontal axis to the costs."""
    loss_axis(axes, "x", spent, margin=1.1)
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
