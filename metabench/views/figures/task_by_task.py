"""Two contenders on each test task: where one is better, and by how much."""

from __future__ import annotations

from itertools import combinations

from matplotlib.figure import Figure

from metabench.views.drawing.contenders import LOW, Contender, contenders, scores_by_task
from metabench.views.drawing.medium import canvas, headline, message
from metabench.views.drawing.reading import Fields, Tables
from metabench.views.drawing.style import GREY, Style, titled

NAME = "tasks_{protocol}"
CATEGORY = "Comparisons"
CAPTION = """
Each point is a test task: the mean scores of two contenders over their seeds, after the last
update. Above the dashed line, the one across is better on this task. The contenders are the two
best algorithms, each with its selected cell, and the Gaussian process with a fitted kernel. Scores
below 0.00001 are drawn there.
"""

PROCESS = "gaussian-process-fitted"
"""The yardstick beside the best algorithms."""


def needed(fields: Fields) -> bool:
    """Return whether a study is about more than its mean scores: one with grids of protocols."""
    return bool(fields.grid)


def draw(tables: Tables, protocol: str) -> Figure:
    """Draw a panel for each pair."""
    shown = _shown(tables, protocol)
    if len(shown) < 2:
        return message("This study has nothing to compare.")
    scores = scores_by_task(tables, protocol).clip(lower=LOW)
    pairs = list(combinations([side.style for side in shown], 2))
    figure = canvas(2.4)
    panels = figure.subplots(1, len(pairs), squeeze=False)
    for axes, (across, along) in zip(panels.flat, pairs, strict=True):
        x, y = scores[across.line], scores[along.line]
        axes.plot([LOW, 1], [LOW, 1], linestyle=(0, (4, 3)), color=GREY, linewidth=0.8)
        axes.plot(x, y, "o", markersize=2, alpha=0.4, color="#0072B2")
        axes.set(xscale="log", xlabel=_label(across), xlim=(x.min() / 1.5, 1.5 * x.max()))
        axes.set(yscale="log", ylabel=_label(along), ylim=(y.min() / 1.5, 1.5 * y.max()))
        axes.set_box_aspect(1)
    headline(figure, titled(protocol, f"protocol: selected cells, {tables.size(protocol)}"))
    return figure


def _label(style: Style) -> str:
    """Return the label of an axis; a long name has lines of its own."""
    between = "\n" if "\n" in style.label else " "
    return f"score of{between}{style.label}"


def _shown(tables: Tables, protocol: str) -> list[Contender]:
    """Return the two best algorithms and the fitted Gaussian process, those that there are."""
    found = contenders(tables, protocol)
    trained = [side for side in found if side.algorithm in tables.every_algorithm]
    return [*trained[:2], *(side for side in found if side.algorithm == PROCESS)]
