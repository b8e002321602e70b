"""Final loss of every cell of the grids, with a heat map for each algorithm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from metabench.views.drawing import cell_grids
from metabench.views.drawing.cell_grids import STEP_SIZES
from metabench.views.drawing.medium import canvas, headline, medium
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import broken, compact, inches, loss_axis, titled

NAME = "step_sizes_{gridded}"
CATEGORY = "Step sizes"
CAPTION = """
Score of every cell of the step-size grids after the last update. Each field gives the mean score
and, in brackets, the median loss over all seeds and test tasks, and the share of adaptations that
failed if it is 0.05 % or more. A score is the loss divided by that of predicting zero on the same
points, capped at 1. Colours show the score on one logarithmic scale for all panels; the darkest is
no better than predicting zero. A frame marks the published cell, a star the selected cell, which
the validation bank selects after its best number of updates. Algorithms with an inner
step size adapt with it; one without is shown with the common step size and with one that each seed
tunes on the validation bank. In hatched fields the initialization of some seeds
diverged in training; the field gives their number. No run is left out of any mean: the adaptations
of a diverged run have the score 1. If a selected cell is at the edge of its grid, a better one may
lie outside. A cell that is not published and differs from every other of its algorithm in more than
these axes show has no panel.
"""

CMAP = "viridis_r"
BAR = 0.9
"""Inches of the scale of colours."""

FIELD = 0.62
"""Smallest width of a field in inches."""

ROOM = 0.4
"""Inches for the ticks of a panel's vertical axis; longer ones make the panel wider."""

SETTINGS = {
    ("meta_optimizer", "adam"): "Adam outside",
    ("meta_schedule", "linear"): "linear decay",
    ("meta_schedule", "cosine"): "cosine decay",
    ("inner_optimizer", "adam"): "Adam inside",
}
"""Shorter words for some settings."""

PLAIN = {("meta_optimizer", "sgd"), ("meta_schedule", "constant"), ("inner_optimizer", "sgd")}
"""Settings that are omitted."""


class Axis(NamedTuple):
    """One axis of a heat map.

    Args:
        label: Its label.
        ticks: Text at each position.
        by: The column of the leaderboard that determines a row's position.
        places: The position of each value of that column.
    """

    label: str
    ticks: list[str]
    by: str
    places: dict[str, int]

    def place(self, row: Any) -> int:
        """Return the position of a row of the leaderboard on this axis."""
        return self.places[getattr(row, self.by)]


class Grid(NamedTuple):
    """One heat map.

    Args:
        title: The algorithm, and the hyperparameters that all its cells here have in common.
        rows: Rows of the leaderboard, one for each field.
        vertical: The vertical axis.
        horizontal: The horizontal axis.
    """

    title: str
    rows: pd.DataFrame
    vertical: Axis
    horizontal: Axis

    @property
    def scores(self) -> NDArray[np.float64]:
        """Mean scores by row and column; NaN where there is no cell, or a run diverged."""
        found = np.full((len(self.vertical.ticks), len(self.horizontal.ticks)), np.nan)
        for row in self.rows.itertuples():
            found[self.vertical.place(row), self.horizontal.place(row)] = (
                np.nan if row.runs_diverged else row.score
            )
        return found

    @property
    def compares(self) -> bool:
        """Whether it has more than one field, or a published cell."""
        return len(self.rows) > 1 or bool((self.rows["role"] == "published").all())

    @property
    def width(self) -> float:
        """Width of its panel in inches, including labels."""
        field = max(FIELD, *(inches(tick) + 0.1 for tick in self.horizontal.ticks))
        beside = max(inches(tick) for tick in self.vertical.ticks) - ROOM
        upright = self.vertical.by == "step"
        return 0.7 + (0 if upright else max(beside, 0)) + field * max(len(self.horizontal.ticks), 2)


def draw(tables: Tables, gridded: str) -> Figure:
    """Draw the mean score after a protocol's last update, and the median loss below it."""
    every = [grid for name in _in_order(tables) for grid in _grids(tables, gridded, name)]
    grids = [grid for grid in every if grid.compares] or every
    norm = _norm(pd.concat(grid.rows for grid in grids)["score"])
    bands = _bands(grids)
    heights = [1.1 + 0.52 * max(len(grid.vertical.ticks) for grid in band) for band in bands]
    widest = max(sum(grid.width for grid in band) for band in bands)
    figure = canvas(0.4 + sum(heights), least=widest + BAR)
    left, right = figure.subfigures(1, 2, width_ratios=[widest, BAR], squeeze=False)[0]
    rows = left.subfigures(len(bands), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, band in zip(rows, bands, strict=True):
        for axes, grid in zip(_panels(row, band, widest), band, strict=True):
            _draw(axes, grid, norm)
    place = right.add_axes((0.1, 0.2, 0.18, 0.6))
    bar = figure.colorbar(ScalarMappable(norm, CMAP), cax=place)
    loss_axis(bar.ax, "y", np.array([norm.vmin, norm.vmax]), margin=1)
    bar.set_label("mean score after the last update")
    what = f"mean score (median loss) over {tables.size(gridded)}"
    headline(figure, f"{gridded} protocol: {what}")
    return figure


def _bands(grids: list[Grid]) -> list[list[Grid]]:
    """Break the panels into rows that the medium has room for."""
    most = medium().widest - BAR
    bands: list[list[Grid]] = [[]]
    for grid in grids:
        used = sum(other.width for other in bands[-1])
        if bands[-1] and used + grid.width > most:
            bands.append([])
        bands[-1].append(grid)
    return bands


def _panels(row: Any, band: list[Grid], widest: float) -> list[Axes]:
    """Return axes for a row of grids, as wide as each needs; the rest stays empty."""
    widths = [grid.width for grid in band]
    spare = widest - sum(widths)
    if spare > 0.1:
        widths.append(spare)
    panels = row.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    for axes in panels[len(band) :]:
        axes.set_axis_off()
    return list(panels[: len(band)])


def _in_order(tables: Tables) -> list[str]:
    """Return the algorithms, those without an inner step size last."""
    names = sorted(set(tables["cells.csv"]["algorithm"]))
    inner = STEP_SIZES[0]
    return sorted(
        names, key=lambda name: inner not in cell_grids.settings(tables["cells.csv"], name)
    )


def _grids(tables: Tables, protocol: str, algorithm: str) -> Iterator[Grid]:
    """Yield the heat maps of an algorithm, one for each combination of other settings."""
    known = cell_grids.settings(tables["cells.csv"], algorithm)
    board = tables.rows("leaderboard.csv", protocol=protocol, algorithm=algorithm)
    board = board[board["cell"].isin(known.index)]
    steps = sorted(set(board["step"]))
    if "own" in steps:
        board, steps = board[board["step"] == "own"], ["own"]

    # The step of adaptation takes an axis where an algorithm has no step of its own.
    names = cell_grids.axes(known, 2 if steps == ["own"] else 1)
    if not names:
        return
    for shared, group in cell_grids.panels(known, names):
        title = tables.styles[algorithm].label + _note(shared)
        rows = board[board["cell"].isin(group.index)]
        across = [_axis(group[name]) for name in names]
        if len(across) < 2:
            across.insert(0, _axis_of_steps(steps))
        yield Grid(title, rows, *across)


def _axis(values: pd.Series) -> Axis:
    """Return the axis of a hyperparameter, given the value of each cell."""
    ranks = {str(cell): _rank(value) for cell, value in values.items()}
    texts = {_rank(value): _value_text(value) for value in values}
    order = sorted(texts)
    label = broken(str(values.name)).replace("_", " ")
    places = {cell: order.index(rank) for cell, rank in ranks.items()}
    return Axis(label, [texts[rank] for rank in order], "cell", places)


def _axis_of_steps(steps: list[str]) -> Axis:
    """Return the axis of adaptation steps; it has no label if there is only the own step size."""
    places = {step: n for n, step in enumerate(steps)}
    if steps == ["own"]:
        return Axis("", [""], "step", places)
    return Axis("step of adaptation", steps, "step", places)


def _rank(value: Any) -> tuple[int, float, str]:
    """Return the sort key of a value of any type: missing, then numbers, then words."""
    if pd.isna(value):
        return (0, 0.0, "")
    if isinstance(value, str):
        return (2, 0.0, value)
    return (1, float(value), "")


def _value_text(value: Any) -> str:
    """Format the value of a hyperparameter; an empty one stands for its default."""
    if pd.isna(value):
        return "default"
    return broken(value) if isinstance(value, str) else f"{value:g}"


def _note(shared: Mapping[str, Any]) -> str:
    """Format settings, one per line, without those at their default."""
    lines = []
    for name, value in shared.items():
        if not pd.isna(value) and (name, value) not in PLAIN:
            known = SETTINGS.get((name, value))
            lines.append(known or titled(name.replace("_", " "), _value_text(value)))
    return "".join(f"\n{line}" for line in lines)


def _norm(scores: pd.Series) -> LogNorm:
    """Return a logarithmic colour scale for all panels, from best to as bad as zero."""
    known = scores[scores > 0]
    return LogNorm(min(known.min(), 0.5) if len(known) else 0.1, 1.0)


def _draw(axes: Axes, grid: Grid, norm: LogNorm) -> None:
    """Draw one heat map."""
    least: Any = norm.vmin
    scores = grid.scores.clip(least)  # a logarithm has no colour for a score of exactly 0
    fields = np.ma.masked_invalid(scores)
    axes.pcolormesh(fields, cmap=CMAP, norm=norm, linewidths=1, edgecolor="white")
    rows, columns = scores.shape
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.spines[:].set_visible(False)
    for row in grid.rows.itertuples():
        _mark(axes, row, grid.horizontal.place(row), grid.vertical.place(row), norm)
    axes.set_title(grid.title)
    axes.set_xlabel(grid.horizontal.label)
    axes.set_ylabel(grid.vertical.label)
    axes.set_xticks(np.arange(columns) + 0.5, grid.horizontal.ticks, rotation=0)
    upright = 90 if grid.vertical.by == "step" else 0
    axes.set_yticks(np.arange(rows) + 0.5, grid.vertical.ticks, rotation=upright, va="center")
    if grid.vertical.ticks == [""]:
        axes.tick_params(axis="y", length=0)


def _mark(axes: Axes, row: Any, x: int, y: int, norm: LogNorm) -> None:
    """Write a cell's numbers.

    The published cell has a frame, the selected one a star; a cell with a diverged run is hatched.
    """
    colour = "black"
    if row.runs_diverged:
        axes.add_patch(
            Rectangle(
                (x, y), 1, 1, facecolor="#e4e4e4", hatch="////", edgecolor="#b4b4b4", linewidth=0
            )
        )
    elif row.score > 0 and norm(row.score) > 0.4:
        colour = "white"
    axes.text(
        x + 0.5,
        y + 0.5,
        _text(row),
        ha="center",
        va="center",
        fontsize=medium().field,
        color=colour,
    )
    if row.selected:
        axes.text(
            x + 0.95, y + 0.04, "★", ha="right", va="top", fontsize=medium().tick, color=colour
        )
    if row.role == "published":
        frame = Rectangle(
            (x + 0.03, y + 0.03), 0.94, 0.94, fill=False, edgecolor="black", linewidth=1.8
        )
        axes.add_patch(frame)


def _text(row: Any) -> str:
    """Format score and median loss, and how many runs diverged or else adaptations failed."""
    if row.runs_diverged:
        return f"diverged\n{int(row.runs_diverged)}/{int(row.runs_ok + row.runs_diverged)}"
    failed = f"\n{100 * row.failed:.1f} % failed" if row.failed >= 0.0005 else ""
    return f"{compact(row.score)}\n({compact(row.median)}){failed}"
