"""Validation loss in training, against meta-iterations and against three measures of what they
cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from metabench.views.figures.reading import Tables
from metabench.views.figures.style import WIDTH, loss_axis, message

SPENT = {
    "meta_iteration": "meta-iterations",
    "tasks_seen": "tasks seen",
    "gradient_evaluations": "gradient evaluations",
    "point_gradients": "point-gradients",
}

LOOKS: dict[str, dict[str, Any]] = {
    "published": {"linestyle": "-", "linewidth": 1.5},
    "equal-budget": {"linestyle": (0, (3, 1)), "linewidth": 1.5},
}


def draw(tables: Tables) -> Figure:
    """Draw the published cells, and those at another's budget."""
    if not tables.algorithms:
        return message("No cell of this study is published.")
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for axes, (column, label) in zip(panels.flat, SPENT.items(), strict=True):
        for role, look in LOOKS.items():
            for algorithm, cell in _cells(tables, role):
                _draw(axes, tables, algorithm, cell, role, column, look)
        _dress(axes, label)
    for axes in panels[:, 0]:
        axes.set_ylabel("validation MSE")
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4 if tables.crowded else 3,
    )
    return figure


def _cells(tables: Tables, role: str) -> list[tuple[str, str]]:
    """Return algorithm and cell of each cell with a role."""
    return [
        (n, c)
        for n in tables.algorithms
        for c in tables.rows("cells.csv", role=role, algorithm=n)["cell"]
    ]


def _draw(
    axes: Axes,
    tables: Tables,
    algorithm: str,
    cell: str,
    role: str,
    column: str,
    look: dict[str, Any],
) -> None:
    """Draw a cell: a faint line for each seed, their mean, and a cross where a seed's loss stops
    being finite.

    Where there are many algorithms the lines of single seeds are left out.
    """
    style, rows = (
        tables.styles[algorithm],
        tables.rows("history.csv", algorithm=algorithm, cell=cell),
    )
    wide = rows.pivot(index=column, columns="seed", values="validation_loss")
    lost = int((~np.isfinite(wide.iloc[-1])).sum())
    label = style.label + ("" if role == "published" else f", {role}")
    label += f"\n({lost} of {wide.shape[1]} seeds diverged)" if lost else ""
    if len(wide) == 1:
        mean = wide.mean(axis=1).iloc[0]
        axes.axhline(
            mean,
            color=style.colour,
            label=f"{label} (untrained)",
            linestyle=(0, (1, 1)),
            linewidth=1.2,
        )
        return
    if not tables.crowded:
        axes.plot(
            wide.index,
            wide.mask(~np.isfinite(wide)),
            color=style.colour,
            alpha=0.2,
            linewidth=0.5,
            zorder=1.5,
        )
    mean = wide.mean(axis=1)
    axes.plot(wide.index, mean.mask(~np.isfinite(mean)), color=style.colour, label=label, **look)
    _crosses(axes, wide, style.colour)


def _crosses(axes: Axes, wide: pd.DataFrame, colour: str) -> None:
    """Mark the last finite loss of each seed that has diverged by the end."""
    for losses in (wide[seed] for seed in wide if not np.isfinite(wide[seed].iloc[-1])):
        known = losses[np.isfinite(losses)]
        axes.plot(
            known.index[-1:], known.iloc[-1:], "x", color=colour, markersize=6, markeredgewidth=1.5
        )


def _dress(axes: Axes, label: str) -> None:
    losses = np.concatenate([line.get_ydata() for line in axes.get_lines()]).astype(float)
    loss_axis(axes, "y", losses)
    axes.set_xlim(left=0)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
