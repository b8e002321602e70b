"""Final loss of every cell of the step-size grids, a heat map for each algorithm."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from metabench.views.figures.reading import Tables
from metabench.views.figures.style import WIDTH, compact, loss_axis, message

SIZES = ["inner_step_size", "meta_step_size"]
KEYS = ["algorithm", "cell", "role"]
CMAP = "viridis_r"
WIDEST = 11.0
"""Inches of a row of panels."""

SETTINGS = {
    ("meta_optimizer", "adam"): "Adam outside",
    ("meta_schedule", "linear"): "linear decay",
    ("meta_schedule", "cosine"): "cosine decay",
    ("inner_optimizer", "adam"): "Adam inside",
}
"""How settings other than the default are spelled where the grids of an algorithm differ in them.
"""


class Grid(NamedTuple):
    """One heat map.

    Args:
        title: The algorithm, and settings beside the step sizes if it has cells of several.
        rows: Leaderboard rows; `row` is the place on the vertical axis, `meta_step_size` on the
            other.
        vertical: Name of the vertical axis.
    """

    title: str
    rows: pd.DataFrame
    vertical: str

    @property
    def table(self) -> pd.DataFrame:
        """Mean losses by row and column."""
        return self.rows.pivot(index="row", columns="meta_step_size", values="mean")


def draw(tables: Tables, protocol: str) -> Figure:
    """Draw the mean loss after a protocol's last update, and the median below it."""
    grids = _grids(tables, protocol)
    if not grids:
        return message("No algorithm of this study has a step size.")
    norm = _norm(pd.concat(grid.rows for grid in grids)["mean"], tables.zero(protocol))
    rows = _rows(grids)
    heights = [1.1 + 0.52 * max(grid.table.shape[0] for grid in row) for row in rows]
    widest = max(sum(_width(grid) for grid in row) for row in rows)
    figure = Figure(figsize=(max(WIDTH, 0.9 + widest), 0.4 + sum(heights)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[widest, 0.9], squeeze=False)[0]
    for band, row in zip(
        left.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0], rows, strict=True
    ):
        widths = [_width(grid) for grid in row]
        rest = [spare] if (spare := widest - sum(widths)) > 0.1 else []
        panels = band.subplots(
            1, len(widths) + len(rest), width_ratios=[*widths, *rest], squeeze=False
        )[0]
        for axes, grid in zip(panels, row, strict=False):
            _draw(axes, grid, norm)
        for axes in panels[len(row) :]:
            axes.set_axis_off()
    bar = figure.colorbar(
        ScalarMappable(norm, CMAP), cax=right.add_axes((0.1, 0.2, 0.18, 0.6)), extend="max"
    )
    loss_axis(bar.ax, "y", np.array([norm.vmin, norm.vmax]), margin=1)
    bar.set_label("mean MSE after the last update")
    figure.suptitle(f"{protocol} protocol: mean (median) over {tables.size(protocol)}", fontsize=8)
    return figure


def _width(grid: Grid) -> float:
    """Return how many inches a panel needs, labels included."""
    return 0.7 + 0.62 * max(grid.table.shape[1], 2)


def _rows(grids: list[Grid]) -> list[list[Grid]]:
    """Break the panels into rows of `WIDEST` inches at most."""
    rows: list[list[Grid]] = [[]]
    for grid in grids:
        if rows[-1] and sum(map(_width, [*rows[-1], grid])) > WIDEST:
            rows.append([])
        rows[-1].append(grid)
    return rows


def _grids(tables: Tables, protocol: str) -> list[Grid]:
    """Return a grid for each algorithm and for each combination of its other settings."""
    cells = tables["cells.csv"]
    cells = cells[cells["role"].isin(["published", "grid"]) & cells["meta_step_size"].notna()]
    board = tables.rows("leaderboard.csv", protocol=protocol)
    others = [column for column in cells.columns if column not in (*KEYS, *SIZES)]
    found = []
    without = cells.groupby("algorithm")["inner_step_size"].count() == 0
    for algorithm in without.sort_values(kind="stable").index:
        mine = cells[cells["algorithm"] == algorithm]
        varied = [column for column in others if mine[column].nunique(dropna=False) > 1]
        for values, group in mine.groupby(varied, dropna=False) if varied else [((), mine)]:
            note = "".join(
                _setting(name, value) for name, value in zip(varied, values, strict=True)
            )
            rows = board[board["cell"].isin(group["cell"]) & (board["algorithm"] == algorithm)]
            found.append(_grid(tables.styles[str(algorithm)].label + note, rows))
    return found


def _setting(name: str, value: Any) -> str:
    """Spell a setting in a line of its own; an empty one has its default and is not spelled."""
    if pd.isna(value):
        return ""
    return f"\n{SETTINGS.get((name, value)) or f'{name} {value:g}'}"


def _grid(title: str, rows: pd.DataFrame) -> Grid:
    """Lay out the cells of one grid: by inner step size, or by step of adaptation where training
    has none.
    """
    if rows["inner_step_size"].notna().all():
        own = rows[rows["step"] == "own"]
        return Grid(
            title, own.assign(row=own["inner_step_size"].map("{:g}".format)), "inner step size"
        )
    alone = set(rows["step"]) == {"own"}
    return Grid(
        title, rows.assign(row="" if alone else rows["step"]), "" if alone else "step of adaptation"
    )


def _norm(losses: pd.Series, zero: float) -> LogNorm:
    """Return logarithmic colours for all panels; the dark end is no better than predicting zero."""
    known = losses[np.isfinite(losses)]
    top = zero if np.isfinite(zero) else known.max()
    return LogNorm(min(known.min(), 0.5 * top), top) if len(known) else LogNorm(0.1, 10)


def _draw(axes: Axes, grid: Grid, norm: LogNorm) -> None:
    table = grid.table
    ends = {
        "norm": norm,
        "vmin": norm.vmin,
        "vmax": norm.vmax,
    }  # else it looks for the ends itself, and fails on inf
    sns.heatmap(
        table, mask=~table.map(np.isfinite), cmap=CMAP, cbar=False, linewidths=1, ax=axes, **ends
    )
    for row in grid.rows.itertuples():
        _mark(
            axes, row, table.columns.get_loc(row.meta_step_size), table.index.get_loc(row.row), norm
        )
    axes.set_title(grid.title)
    axes.set_xlabel("meta step size")
    axes.set_ylabel(grid.vertical)
    axes.set_xticklabels([f"{size:g}" for size in table.columns], rotation=0)
    axes.set_yticklabels(
        axes.get_yticklabels(), rotation=90 if grid.vertical.startswith("step") else 0, va="center"
    )


def _mark(axes: Axes, row: Any, x: int, y: int, norm: LogNorm) -> None:
    """Write a cell's numbers, frame the published one, star the selected one, hatch one without a
    finite mean.
    """
    colour = "black"
    if not np.isfinite(row.mean):
        axes.add_patch(
            Rectangle(
                (x, y), 1, 1, facecolor="#e4e4e4", hatch="////", edgecolor="#b4b4b4", linewidth=0
            )
        )
    elif norm(row.mean) > 0.4:
        colour = "white"
    axes.text(x + 0.5, y + 0.5, _text(row), ha="center", va="center", fontsize=6, color=colour)
    if row.selected:
        axes.text(x + 0.95, y + 0.04, "★", ha="right", va="top", fontsize=7, color=colour)
    if row.role == "published":
        frame = Rectangle(
            (x + 0.03, y + 0.03), 0.94, 0.94, fill=False, edgecolor="black", linewidth=1.8
        )
        axes.add_patch(frame)


def _text(row: Any) -> str:
    """Spell mean and median, and what diverged: runs in training, or else adaptations."""
    if row.runs_diverged and not np.isfinite(row.mean):
        return f"diverged\n{int(row.runs_diverged)}/{int(row.runs_ok + row.runs_diverged)}"
    diverged = f"\n{100 * row.diverged_share:.1f} % div." if row.diverged_share >= 0.0005 else ""
    return f"{compact(row.mean)}\n({compact(row.median)}){diverged}"
