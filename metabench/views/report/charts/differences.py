"""Who is better where: the paired difference of two methods over grids of two things."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from metabench.views.drawing.grids import Grid
from metabench.views.drawing.reading import Tables
from metabench.views.drawing.style import in_one_line
from metabench.views.report.board import number
from metabench.views.report.charts.fields import comparisons
from metabench.views.report.charts.maps import axis_titles, place_on, places, two_things, varied
from metabench.views.report.charts.parts import (
    OF_DIFFERENCES,
    Chart,
    Control,
    Source,
    chart,
    interval,
    parameters,
)


def differences(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the map of the difference of two methods over grids of two axes or more."""
    known = two_things(tables)
    rows = [row for title, grid in known for row in _rows(grid, title)]
    if not rows:
        return None
    across, down = axis_titles(known)
    data = _shaded(pd.DataFrame(rows))
    names = tuple(dict.fromkeys([*data["a"], *data["b"]]))
    which = Control("grid", "what varies", tuple(data["grid"].unique()))
    first = Control("first", "method", names)
    second = Control("second", "minus", (*names[1:], names[0]))
    base = (
        alt.Chart(data)
        .transform_filter("datum.grid == grid")
        .transform_filter(
            "datum.a == first && datum.b == second || datum.a == second && datum.b == first"
        )
        .transform_calculate(
            sign="datum.a == first ? 1 : -1",
            apart="datum.sign * datum.difference",
            shown="datum.sign * datum.shade",
            interval="datum.sign > 0 ? datum.interval : datum['interval turned']",
        )
        .encode(
            x=places("x", across),
            y=places("y", down),
            tooltip=["x", "y", "apart:Q", "interval:N"],
        )
    )
    drawn = comparisons(base, "shown", [-1, 1], alt.Text("apart:Q", format="+.2~r"))
    return chart(
        "differences",
        "Who is better where",
        "Difference of two methods' mean scores after the last update, paired on seeds and tasks, "
        "over two things that a group of protocols varies: blue where the first method is better, "
        "orange where the second is, the darker the further apart relative to the rest of the "
        f"map; grey where the {confidence:.0%} interval includes 0. Published cells, and those at "
        "equal budgets, are compared with each other and with the baselines; a pair that was not "
        "compared has no map.",
        Source(tables.size(tables.protocols[0]), ("comparisons.csv", "axes.csv"), OF_DIFFERENCES),
        (which, first, second),
        drawn.add_params(*parameters(which, first, second)),
        height=280,
    )


def _shaded(data: pd.DataFrame) -> pd.DataFrame:
    """Add shades from -1 to 1: each difference relative to the largest of its pair and grid.

    The root of the ratio still shows small differences as different from 0.
    """
    far = data["difference"].abs()
    most = far.groupby([data["grid"], data["a"], data["b"]]).transform("max")
    shade = np.sign(data["difference"]) * np.sqrt(far / most.where(most > 0, 1))
    return data.assign(shade=shade.round(3))


def _rows(grid: Grid, title: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each compared pair and point of a grid."""
    labels = {(m.algorithm, m.cell): in_one_line(m.label) for m in grid.methods}
    columns = [name for name in grid.rows if name.startswith("place ")]
    at = grid.rows[["protocol", *columns]].drop_duplicates()
    compared = grid.tables.rows("comparisons.csv", region="all")
    compared = compared[compared["role"].isin(["published", "equal-budget"])]
    cells = (compared["cell_a"] != "-") | (compared["cell_b"] != "-")
    compared = compared[cells]  # a map of two baselines says nothing of a method
    for row in compared.merge(at, on="protocol").to_dict("records"):
        a, b = (labels.get((row[f"algorithm_{side}"], row[f"cell_{side}"])) for side in "ab")
        if a is None or b is None:
            continue
        ends = row["difference_lower"], row["difference_upper"]
        lower, upper = map(number, ends)
        turned = [number(-end) for end in ends[::-1]]
        here = {key: value for key, value in place_on(grid, row).items() if key != "point"}
        yield here | {
            "grid": varied(grid, title),
            "a": a,
            "b": b,
            "difference": number(row["difference"]),
            "certain": bool(ends[0] > 0 or ends[1] < 0),
            "interval": interval(lower, upper),
            "interval turned": interval(*turned),
        }
