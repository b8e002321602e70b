"""Final scores of the published cells and of the cells with another algorithm's budget."""

from __future__ import annotations

from math import ceil
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from metabench.analysis.columns import judged
from metabench.views.drawing.medium import canvas, medium
from metabench.views.drawing.reading import Fields, Tables
from metabench.views.drawing.style import Style, inches, loss_axis, titled

NAME = "equal_budget"
CATEGORY = "Comparisons"
CAPTION = """
Score after the last update, with its interval over seeds and tasks (95 % unless the study sets a
different level): of the published cells, and of cells that were trained until they had spent as
many point-gradients as another algorithm's published cell. A score is the loss divided by that of
predicting zero on the same task and points, capped at 1; the axis is logarithmic. The published
settings differ in the cost of a meta-iteration, so compare rows with equal point-gradients.
"""

PANEL = 2.4
"""Smallest width of a panel in inches, so that its axis label fits."""


def needed(fields: Fields) -> bool:
    """Return whether a study has it: a cell that was given another algorithm's budget."""
    return fields.budgeted


def draw(tables: Tables) -> Figure:
    """Draw scores with their intervals, a panel for each protocol."""
    board = judged(tables["leaderboard.csv"])
    board = board[board["protocol"].isin(tables.protocols)]
    budgeted = board[board["role"] == "equal-budget"]
    # Algorithms without their step size have no fair place beside them.
    alike = board["step"].isin(budgeted["step"])
    board = board[alike & board["role"].isin(["published", "equal-budget"])]
    rows = board.sort_values(["point_gradients", "algorithm", "role", "cell"])
    cell_keys = ["algorithm", "cell", "role", "point_gradients"]
    cells = list(rows[cell_keys].drop_duplicates().itertuples(index=False))
    labels = [_label(tables, cell) for cell in cells]

    beside = max(map(inches, labels))
    titles = (_title(tables, protocol) for protocol in tables.protocols)
    panel = max(PANEL, *(inches(title, medium().label) for title in titles))
    fitting = int((medium().widest - beside) / panel)
    columns = min(len(tables.protocols), max(1, fitting))
    lines = ceil(len(tables.protocols) / columns)
    height = lines * (1.1 + 0.42 * len(cells))
    figure = canvas(height, least=beside + panel * columns)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes in panels.flat[len(tables.protocols) :]:
        axes.set_axis_off()
    for axes, protocol in zip(panels.flat, tables.protocols, strict=False):
        here = rows[rows["protocol"] == protocol].set_index(["algorithm", "cell"])
        for place, cell in enumerate(cells):
            if (cell.algorithm, cell.cell) in here.index:
                row = here.loc[(cell.algorithm, cell.cell)]
                _draw(axes, row, place, tables.styles[cell.algorithm])
        _style_axes(axes, tables, protocol, here)
    panels[0, 0].set_yticks(range(len(cells)), labels)
    panels[0, 0].set_ylim(len(cells) - 0.5, -0.5)
    return figure


def _title(tables: Tables, protocol: str) -> str:
    """Return the title of a protocol's panel."""
    return titled(f"{protocol}:", tables.size(protocol))


def _label(tables: Tables, cell: Any) -> str:
    """Format a cell's algorithm, role and budget."""
    budget = EngFormatter(places=1, sep=" ")(cell.point_gradients)
    return f"{tables.styles[cell.algorithm].label}, {cell.role}\n{budget} point-gradients"


def _draw(axes: Axes, row: pd.Series, place: int, style: Style) -> None:
    """Draw the score with its interval."""
    value, lower, upper = (float(row[f"score{end}"]) for end in ("", "_lower", "_upper"))
    if value == 0:  # which a logarithmic axis cannot show
        axes.text(0.02, place, "score 0", transform=axes.get_yaxis_transform())
        return
    ends = [[value - lower], [upper - value]]
    look: dict[str, Any] = {"color": style.colour, "marker": style.marker}
    axes.errorbar(value, place, xerr=ends, capsize=2, elinewidth=1.2, markersize=5, **look)


def _style_axes(axes: Axes, tables: Tables, protocol: str, rows: pd.DataFrame) -> None:
    """Give a panel its axis and title."""
    columns = ["score", "score_lower", "score_upper"]
    loss_axis(axes, "x", rows[columns].to_numpy(dtype=float))
    axes.set_xlabel("score after the last update")
    axes.set_title(_title(tables, protocol))
    axes.grid(axis="y", color="#eeeeee")
