"""Where they break: a map of each method over grids of protocols that vary two things."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from metabench.views.drawing.grids import LOW, Axis, Grid
from metabench.views.drawing.reading import Tables
from metabench.views.report.charts.fields import ink
from metabench.views.report.charts.grids import row_labels, statistic_text, values
from metabench.views.report.charts.parts import (
    OF_STATISTICS,
    STATISTICS,
    Chart,
    Control,
    Source,
    chosen_title,
    framed,
    parameters,
)

HIGHLIGHTED = "(highlight == '' || highlight == datum.title)"
"""Whether a mark is shown in full."""

FIELD = (40, 22)
"""Pixels of a field, across and down."""

BESIDE = 24
"""Pixels between two maps."""


def maps(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return maps of scores over grids of two axes or more, which few studies have."""
    known = two_things(tables)
    rows = [row for title, grid in known for row in _rows(grid, title)]
    if not rows:
        return None
    across, down = axis_titles(known)
    data = pd.DataFrame(rows)
    which = Control("grid", "what varies", tuple(data["grid"].unique()))
    statistic = Control("statistic", "statistic", tuple(STATISTICS))
    scale = Control("scale", "scale", ("log", "linear"))
    base = (
        alt.Chart()
        .encode(
            x=places("x", across),
            y=places("y", down),
            tooltip=["method", "cell", "step", "point", "value:N", "interval:N"],
        )
        .properties(width=alt.Step(FIELD[0]), height=alt.Step(FIELD[1]))
    )
    field = base.mark_rect().encode(
        opacity=alt.condition(HIGHLIGHTED, alt.value(1), alt.value(0.25)),
        color=alt.Color("shown:Q")
        .scale(type="log", scheme="viridis", reverse=True)
        .legend(title=None, orient="bottom", gradientLength=300, labelOverlap=True),
    )
    text = base.mark_text(fontSize=10).encode(
        text="text:N", color=ink("scale('color', datum.shown)", HIGHLIGHTED)
    )
    drawn = (
        (field + text)
        .facet(
            alt.Facet("method:N", title=None, sort=list(data["method"].unique())).header(
                labelFontSize=12, labelAnchor="start"
            ),
            columns=1,
            data=data,
        )
        .transform_filter("datum.grid == grid")
        .transform_calculate(
            **statistic_text(),
            text="!isNumber(datum.value) ? datum.value : "
            "datum.value != 0 && abs(datum.value) < 1e-3 ? "
            "format(datum.value, '.0e') : format(datum.value, '.2~r')",
        )
        .add_params(*parameters(which, statistic))
    )
    widest = int(data.groupby("grid")["x"].nunique().max())
    return framed(
        "maps",
        "Where two things break them",
        "Scores after the last update over two things that a group of protocols varies, a map for "
        "each method at the step size that it is judged by: darker is worse. Scores and shares "
        f"below {LOW:g} have the lightest colour. Point at a field for its {confidence:.0%} "
        "interval, click it to find its cell wherever this page shows it.",
        Source(
            tables.size(data["protocol"].iloc[0]), ("leaderboard.csv", "axes.csv"), OF_STATISTICS
        ),
        (which, statistic, scale),
        drawn.to_dict() | {"usermeta": {"map": widest * FIELD[0] + BESIDE}},
    )


def two_things(tables: Tables) -> list[tuple[str, Grid]]:
    """Return the grids of two axes, and those of more axes in slices, each with its title."""
    known = [Grid(tables, name) for name in tables.grids]
    return [part for grid in known if len(grid.axes) > 1 for part in grid.slices]


def varied(grid: Grid, title: str) -> str:
    """Return what a grid varies in words; the title is that of its further axes."""
    down, across = grid.axes
    return ", ".join(
        filter(None, (f"{grid.name}: {across.title} (across) and {down.title}", title))
    )


def axis_titles(known: list[tuple[str, Grid]]) -> tuple[str, str]:
    """Return the titles of the axes of maps, across and down, which depend on the grid."""
    axes = {varied(grid, title): [axis.title for axis in grid.axes] for title, grid in known}
    across = {name: titles[1] for name, titles in axes.items()}
    down = {name: titles[0] for name, titles in axes.items()}
    return chosen_title("grid", across), chosen_title("grid", down)


def places(name: str, title: str) -> Any:
    """Return an axis of a map, its values in the order of the study file."""
    order = alt.EncodingSortField(f"place {name}", "min")
    if name == "x":
        return alt.X("x:N", title=title, sort=order).axis(labelAngle=-45)
    return alt.Y("y:N", title=title, sort=order)


def _rows(grid: Grid, title: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each method and point of a grid; the title is that of its further axes."""
    for method in grid.methods:
        for row in grid.of(method).to_dict("records"):
            known = row_labels(grid, method, row)
            where = {"grid": varied(grid, title), "method": known["label"]}
            yield known | values(row) | where | place_on(grid, row)


def place_on(grid: Grid, row: dict[str, Any]) -> dict[str, Any]:
    """Return where a row of a grid is on its map."""
    down, across = grid.axes
    x, y = _at(across, row), _at(down, row)
    return {
        "x": across.values[x],
        "y": down.values[y],
        "place x": x,
        "place y": y,
        "point": f"{across.name} {across.values[x]}, {down.name} {down.values[y]}",
    }


def _at(axis: Axis, row: dict[str, Any]) -> int:
    """Return the place of a row on an axis."""
    return int(row[f"place {axis.name}"])
