"""Scores over a grid of protocols: curves over one axis, maps over two."""

from __future__ import annotations

import textwrap
from collections import Counter
from itertools import combinations
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import NullLocator, PercentFormatter
from numpy.typing import NDArray

from metabench.views.drawing.curves import ARROW, arrow
from metabench.views.drawing.grids import LOW, Axis, Grid, Method
from metabench.views.drawing.medium import canvas, headline, legend_below, medium
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import loss_axis

NAME = "grid_{grid}"
CATEGORY = "Robustness"
CAPTION = """
How a group of protocols that varies one thing or more changes the mean score after the last update:
the loss divided by that of predicting zero on the same task and points, capped at 1, where an
adaptation counts as failed. One axis: the mean score with its interval over seeds and tasks (left),
and the share of adaptations that failed (right); an arrow stands for a score below 0.0001, which
is off the axis. Two axes: a map for each method, brighter where the score is better. The last row
has differences of paired scores, purple where the first of the two is better and hatched where the
interval includes zero: the first two published cells, and each of them against a Gaussian process.
More axes: these maps over the first two, for each value of the others. A field is empty where a
method is not defined or was not computed; without noise on labels, the best possible is a score of
0 wherever the points determine the task.

Solid: published cells; dash-dotted: published values at another algorithm's budget; dashed: other
cells; dotted: baselines, of which those named "below" are off the axis everywhere; broad: the best
that any predictor can do, where labels are noisy. Markers are hollow on the second and further
lines of an algorithm. If a study has many algorithms, each has one
line, solid and without interval: the cell that validation selects under the first of its protocols
by name. Cells adapt at their own step size or, if they have none, at the one that each run tunes on
validation tasks.
"""

OFF = 1e-9
"""Stands for a score below `LOW`, so that the line leaves the axis through its bottom."""

MAP = 1.8
"""Inches of a map at least."""

LETTERS = 26
"""Letters that fit above a map."""

SCORES = LogNorm(1e-3, 1)
DIFFERENCES = SymLogNorm(0.01, vmin=-1, vmax=1)
"""The scales of colours, the same in all figures."""

COLOURS_OF_DIFFERENCES = "PuOr_r"
"""Purple below zero, where the first of two methods is better."""

RIVALS = ("gaussian-process-noise", "gaussian-process-fitted")
"""With which published cells are compared: the first that a grid has."""


def draw(tables: Tables, grid: str) -> Figure:
    """Draw a group of protocols."""
    found = Grid(tables, grid)
    figure = _curves(found) if len(found.axes) == 1 else _sets_of_maps(found)
    protocol = found.rows["protocol"].iloc[0]
    headline(figure, f"{grid}: {tables.size(protocol)}")
    return figure


def _curves(grid: Grid) -> Figure:
    """Draw score and share of failures over the one axis of a grid."""
    (axis,) = grid.axes
    figure = canvas(3.6)
    left, right = figure.subplots(1, 2)
    known = []
    below: Counter[float] = Counter()
    for method in grid.lines:
        rows = grid.of(method).sort_values(f"place {axis.name}")
        places = rows[f"place {axis.name}"].to_numpy(int)
        x = places if axis.scale == "order" else np.array(axis.numbers)[places]
        score, colour = rows["score"].to_numpy(float), method.look["color"]
        shown = score >= LOW
        left.plot(x, np.where(shown, score, OFF), label=method.label, **method.look)
        ends = rows["score_lower"], rows["score_upper"]
        if not grid.tables.crowded:
            left.fill_between(x, *ends, where=shown, color=colour, alpha=0.15, linewidth=0)
        for place in x[~shown]:
            arrow(left, place, 0.03 + ARROW * below[place], "down", colour)
            below[place] += 1
        right.plot(x, rows["failed"], **method.look)
        known.append(score)
    for method in grid.below:
        look = {"linestyle": "none", "marker": r"$\downarrow$", "color": method.look["color"]}
        left.plot([], [], label=f"{method.label}, below", **look)
    scores = np.concatenate(known)
    loss_axis(left, "y", np.append(scores[scores >= LOW], [LOW] if below else []))
    if below:  # room for the arrows
        left.set_ylim(bottom=LOW / 2)
    left.set_ylabel("mean score")
    right.set_ylim(-0.02, 1.02)
    right.yaxis.set_major_formatter(PercentFormatter(1))
    right.set_ylabel("adaptations that failed")
    for axes in (left, right):
        _label(axes, axis)
    legend_below(figure, left, 4 if grid.tables.crowded else 3)
    return figure


def _label(axes: Axes, axis: Axis) -> None:
    """Label the x axis and its values."""
    axes.set_xlabel(axis.title)
    if axis.scale == "order":
        axes.set_xticks(range(len(axis.values)), axis.values)
        if max(map(len, axis.values)) * len(axis.values) > 40:
            axes.tick_params(axis="x", rotation=60)
        return
    axes.set_xscale(axis.scale)
    axes.set_xticks(axis.numbers, _apart(axis))
    axes.xaxis.set_minor_locator(NullLocator())
    if len(axis.numbers) > 6:
        axes.tick_params(axis="x", rotation=60)


def _apart(axis: Axis) -> list[str]:
    """Return the texts of an axis's numbers, none where one would overlap the one before.

    Example:
        >>> _apart(Axis("shots", "log", [], [1.0, 1.1, 1.5, 2.0, 4.0, 16.0]))
        ['1', '', '1.5', '2', '4', '16']
    """
    places = np.log(axis.numbers) if axis.scale == "log" else np.array(axis.numbers)
    texts, last = [""] * len(places), -np.inf
    for n in np.argsort(places):
        if places[n] - last > CLOSE * np.ptp(places):
            texts[n], last = f"{axis.numbers[n]:.3g}", places[n]
    return texts


CLOSE = 0.045
"""The distance of two numbers at which their texts overlap, as a share of the axis."""


def _sets_of_maps(grid: Grid) -> Figure:
    """Draw maps over the first two axes of a grid, one set for each value of further axes."""
    parts = grid.slices
    columns = int(medium().wide / MAP)
    lines = max(ceil(len(_mapped(part)) / columns) + bool(_differences(part)) for _, part in parts)
    height = lines * (0.9 + 0.22 * len(grid.axes[0].values))
    if len(parts) == 1:
        figure = canvas(0.5 + height)
        _maps(figure, grid, lines, columns)
        return figure
    figure = canvas(0.4 + len(parts) * (0.6 + height))
    places: Any = figure.subfigures(len(parts), 1)
    for place, (title, part) in zip(places, parts, strict=True):
        _maps(place, part, lines, columns)
        place.suptitle(title, fontsize=medium().label)
    return figure


def _maps(figure: FigureBase, grid: Grid, lines: int, columns: int) -> None:
    """Draw a map of the scores of each method over the two axes of a grid, then the differences."""
    down, across = grid.axes
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    differences = _differences(grid)
    scores = panels[: lines - bool(differences)]
    drawn = []
    for axes, method in zip(scores.flat, _mapped(grid), strict=False):
        _map(axes, _on_grid(grid, grid.of(method), "score"), "viridis_r", SCORES)
        axes.set_title(_wrapped(method.label), fontsize=medium().tick)
        drawn.append(axes)
    _scale(figure, ScalarMappable(SCORES, "viridis_r"), scores, "mean score")
    for axes, difference in zip(panels[-1], differences, strict=False):
        _draw_difference(axes, difference)
        drawn.append(axes)
    if differences:
        colours = ScalarMappable(DIFFERENCES, COLOURS_OF_DIFFERENCES)
        bar = _scale(figure, colours, panels[-1], "difference of mean scores")
        ticks = [-1, -0.1, -0.01, 0, 0.01, 0.1, 1]
        bar.set_ticks(ticks, labels=[f"{tick:g}".replace("-", "−") for tick in ticks])
    for axes in set(panels.flat) - set(drawn):
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_yticks(range(len(down.values)), down.values)
    for column in panels.T:
        lowest = [axes for axes in column if axes in drawn][-1:]
        for axes in lowest:
            axes.set_xticks(range(len(across.values)), across.values, rotation=60)
            axes.tick_params(labelbottom=True)
    figure.supxlabel(across.title)
    figure.supylabel(down.title)


def _mapped(grid: Grid) -> list[Method]:
    """Return the methods that have a map: all, since a map has no axis that scores could leave."""
    return [*grid.methods, *grid.below]


def _scale(figure: FigureBase, colours: ScalarMappable, panels: Any, label: str) -> Colorbar:
    """Draw the scale of colours of some panels to their right, and return it."""
    bar = figure.colorbar(colours, ax=panels, shrink=0.8, aspect=20)
    bar.set_label(label)
    bar.outline.set_visible(False)
    return bar


def _wrapped(label: str) -> str:
    """Return a label in lines that are no wider than a map: the algorithm, then its cell."""
    algorithm, comma, cell = label.partition(", ")
    return "\n".join([algorithm + comma.strip(), *textwrap.wrap(cell, LETTERS)])


def _map(axes: Axes, table: NDArray[np.float64], colours: str, norm: Normalize) -> None:
    """Draw one map, with its numbers."""
    axes.imshow(table, cmap=colours, norm=norm, aspect="auto")
    dark = _dark(table, colours, norm)
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            text = f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.1g}"
            axes.text(
                column,
                row,
                text.replace("0.", ".", 1),
                ha="center",
                va="center",
                fontsize=medium().field,
                color="white" if dark[row, column] else "black",
            )
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _dark(table: NDArray[np.float64], colours: str, norm: Normalize) -> NDArray[np.bool_]:
    """Return which fields of a map are so dark that what lies on them has to be light."""
    brightness = ScalarMappable(norm, colours).to_rgba(table)[..., :3] @ (0.3, 0.6, 0.1)
    return np.asarray(brightness < 0.5)


class Difference(NamedTuple):
    """The difference of two methods' scores over a grid.

    Args:
        title: Their names.
        apart: Score of the first less that of the second at each point.
        certain: Whether its interval excludes zero.
    """

    title: str
    apart: NDArray[np.float64]
    certain: NDArray[np.bool_]


def _differences(grid: Grid) -> list[Difference]:
    """Return the differences of published cells from each other and from a Gaussian process."""
    published = [method for method in grid.methods if method.role == "published"][:2]
    processes = {method.algorithm: method for method in grid.methods}
    rival = next((processes[name] for name in RIVALS if name in processes), None)
    pairs = list(combinations(published, 2))
    pairs += [(method, rival) for method in published if rival is not None]
    return [found for pair in pairs if (found := _difference(grid, *pair)) is not None]


def _difference(grid: Grid, a: Method, b: Method) -> Difference | None:
    """Return the difference of two methods' scores, if they were compared."""
    rows = grid.tables.rows("comparisons.csv", role="published", region="all")
    for first, second, sign in ((a, b, 1), (b, a, -1)):
        found = rows[
            (rows["algorithm_a"] == first.algorithm)
            & (rows["cell_a"] == first.cell)
            & (rows["algorithm_b"] == second.algorithm)
            & (rows["cell_b"] == second.cell)
        ]
        if len(found):
            certain = (found["difference_lower"] > 0) == (found["difference_upper"] > 0)
            places = [f"place {axis.name}" for axis in grid.axes]
            at = grid.rows[["protocol", *places]].drop_duplicates()
            known = found.assign(apart=sign * found["difference"], certain=certain.astype(float))
            known = known.merge(at, on="protocol")
            apart, sure = (_on_grid(grid, known, name) for name in ("apart", "certain"))
            return Difference(f"{a.label} −\n{b.label}", apart, sure > 0)
    return None


def _on_grid(grid: Grid, rows: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Return a column of rows by place on both axes; nan if there is no row."""
    down, across = grid.axes
    table = rows.pivot(index=f"place {down.name}", columns=f"place {across.name}", values=column)
    whole = table.reindex(index=range(len(down.values)), columns=range(len(across.values)))
    return whole.to_numpy(float)


def _draw_difference(axes: Axes, difference: Difference) -> None:
    """Draw the map of a difference, hatched where it is not certain."""
    _map(axes, difference.apart, COLOURS_OF_DIFFERENCES, DIFFERENCES)
    dark = _dark(difference.apart, COLOURS_OF_DIFFERENCES, DIFFERENCES)
    axes.set_title(difference.title, fontsize=medium().tick)
    for row, column in np.argwhere(~difference.certain):
        axes.fill(
            column + np.array([-0.5, 0.5, 0.5, -0.5]),
            row + np.array([-0.5, -0.5, 0.5, 0.5]),
            fill=False,
            hatch="////",
            linewidth=0,
            edgecolor="#dddddd" if dark[row, column] else "#777777",
        )
