"""Breaking points: scores over the grids of protocols."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from metabench.analysis.statistics.losses import ROUNDING
from metabench.views.drawing.grids import LOW, Axis, Grid, Method
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import in_one_line
from metabench.views.report.board import number
from metabench.views.report.charts.parts import (
    NUMBERS,
    OF_STATISTICS,
    STATISTICS,
    Chart,
    Control,
    Source,
    chart,
    chosen_title,
    colours,
    dashes,
    interval,
    parameters,
    points,
)

AXES = (1, 2)
"""The most axes of a group; with two, the chart shows one value of the second at a time."""


def grids(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the chart of scores over grids of protocols, which few studies have."""
    known = [Grid(tables, name) for name in tables.grids]
    rows = [row for grid in known if len(grid.axes) in AXES for row in _rows(grid)]
    if not rows:
        return None
    titles = {row["grid"]: row["along"] for row in rows}
    data = pd.DataFrame(rows)
    which = Control("grid", "what varies", tuple(data["grid"].unique()))
    statistic = Control("statistic", "statistic", tuple(STATISTICS))
    base = (
        alt.Chart(data)
        .transform_filter("datum.grid == grid")
        .transform_calculate(**statistic_text())
        .encode(
            x=alt.X(
                "x:N",
                title=chosen_title("grid", titles),
                sort=alt.EncodingSortField("place", "min"),
            ).axis(labelAngle=0, labelOverlap=True),
            stroke=colours(data),
            detail="title:N",
            opacity=alt.condition(
                "highlight == '' || highlight == datum.title", alt.value(1), alt.value(0.15)
            ),
            tooltip=["label", "cell", "step", "x", "value:N", "interval:N"],
        )
    )
    y = alt.Y("shown:Q", title=chosen_title("statistic", STATISTICS))
    y = y.scale(type="log").axis(format=NUMBERS)
    line = base.mark_line(strokeWidth=1.6).encode(y=y, strokeDash=dashes(data))
    marks = base.mark_point(size=40, strokeWidth=1.4).encode(y=y, **points(data))
    return chart(
        "grids",
        "When they break",
        "Scores after the last update along what a group of protocols varies: every cell at the "
        "step size by which it is judged, and the baselines (dotted) that fit on the axis; scores "
        f"and shares below {LOW:g} are drawn there. If two keys vary, choose a value of the "
        "second. An algorithm has one marker, hollow on its second and further lines, which have "
        f"different dashes. Point at a mark for its {confidence:.0%} interval, click it to find "
        "its cell wherever this page shows it. The table breaking_points.csv says where each has "
        "lost half of its advantage.",
        Source(
            tables.size(data["protocol"].iloc[0]), ("leaderboard.csv", "axes.csv"), OF_STATISTICS
        ),
        (which, statistic, Control("scale", "scale", ("log", "linear"))),
        (line + marks).add_params(*parameters(which, statistic)),
        height=320,
    )


def statistic_text() -> dict[str, str]:
    """Return what a mark shows of its row: the statistic that a reader chose."""
    least = f"statistic == 'score' || statistic == 'failed' ? {LOW} : {ROUNDING}"
    return {
        "value": "datum[statistic]",
        "shown": f"isNumber(datum.value) ? max(datum.value, {least}) : null",
        "interval": "datum[statistic + ' interval'] || 'none'",
    }


def _rows(grid: Grid) -> Iterator[dict[str, Any]]:
    """Yield a row for each method and point of a grid."""
    along, *others = grid.axes
    held = others[0] if others else None
    for method in grid.methods:
        for row in grid.of(method).to_dict("records"):
            place = int(row[f"place {along.name}"])
            known = row_labels(grid, method, row) | {
                "grid": _named(grid, along, held, row),
                "along": along.title,
                "x": along.values[place],
                "place": place,
            }
            yield known | values(row)


def _named(grid: Grid, along: Axis, held: Axis | None, row: dict[str, Any]) -> str:
    """Return the text of a grid in the list of choices."""
    name = str(grid.places["group"].iloc[0])
    if held is None:
        return f"{name}: {along.title}"
    return f"{name}: {along.title}, {held.name} {held.values[int(row[f'place {held.name}'])]}"


def row_labels(grid: Grid, method: Method, row: dict[str, Any]) -> dict[str, Any]:
    """Return the label of a mark."""
    return {
        "protocol": row["protocol"],
        "label": in_one_line(method.label),
        "colour": grid.tables.styles[method.algorithm].colour,
        "marker": grid.tables.styles[method.algorithm].marker,
        "title": f"{method.algorithm} {method.cell}",
        "kind": "baseline" if method.cell == "-" else "cell",
        "cell": method.cell,
        "step": row["step"],
    }


def values(row: dict[str, Any]) -> dict[str, Any]:
    """Return the statistics of a row, and the intervals of those that have one."""
    found: dict[str, Any] = {name: number(row[name]) for name in STATISTICS}
    for name in STATISTICS:
        lower, upper = (number(row.get(f"{name}_{end}")) for end in ("lower", "upper"))
        if None not in (lower, upper):
            found[f"{name} interval"] = interval(lower, upper)
    return found
