"""Who beats whom: the matrix of all pairs of contenders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from metabench.views.drawing.contenders import ranking
from metabench.views.drawing.reading import Tables
from metabench.views.report.board import number
from metabench.views.report.charts.fields import comparisons
from metabench.views.report.charts.parts import (
    OF_DIFFERENCES,
    Chart,
    Control,
    Source,
    chart,
    interval,
    parameters,
)


def matrix(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the matrix of all pairs of contenders."""
    rows = tables.rows("comparisons.csv", role="selected", region="all")
    if not len(rows):
        return None
    data = pd.DataFrame(_both_ways(tables, rows, choice.values))
    base = (
        alt.Chart(data)
        .transform_filter("datum.protocol == protocol")
        .encode(
            x=alt.X("b:N", title="opponent", sort=alt.EncodingSortField("rank b", "min")),
            y=alt.Y("a:N", title="algorithm", sort=alt.EncodingSortField("rank a", "min")),
            tooltip=["a", "b", "probability", "interval", "difference", "ratio"],
        )
    )
    drawn = comparisons(base, "probability", [100, 0], alt.Text("probability:Q", format=".0f"))
    return chart(
        "matrix",
        "Who beats whom",
        "How often the algorithm of a row has a smaller loss than that of a column on the same "
        "seed and task, in percent, a tie counting half; each with its selected cell after its "
        f"selected number of updates. Blue if the row wins more often, orange if the column "
        f"does; grey if the {confidence:.0%} interval of the mean difference of scores includes 0.",
        Source(tables.size(choice.values[0]), ("comparisons.csv", "ranking.csv"), OF_DIFFERENCES),
        (choice,),
        drawn.add_params(*parameters(choice)),
        height=22 * data["a"].nunique(),
    )


def _both_ways(
    tables: Tables, rows: pd.DataFrame, protocols: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Yield each pair twice, in both orders."""
    for protocol in protocols:
        order = {name: n for n, name in enumerate(ranking(tables, protocol)["algorithm"])}
        label = {name: tables.styles[name].line for name in order}
        for row in rows[rows["protocol"] == protocol].to_dict("records"):
            a, b, p = row["algorithm_a"], row["algorithm_b"], row["probability_of_improvement"]
            ends = row["difference_lower"], row["difference_upper"]
            ratio, difference = row["ratio"], row["difference"]
            sides = (
                (a, b, p, difference, ends, ratio),
                (b, a, 1 - p, -difference, (-ends[1], -ends[0]), 1 / ratio if ratio else None),
            )
            for one, other, wins, apart, (lower, upper), times in sides:
                yield {
                    "protocol": protocol,
                    "a": label[one],
                    "b": label[other],
                    "rank a": order[one],
                    "rank b": order[other],
                    "probability": number(100 * wins),
                    "difference": number(apart),
                    "interval": interval(number(lower), number(upper)),
                    "ratio": number(times),
                    "certain": bool(lower > 0 or upper < 0),
                }
