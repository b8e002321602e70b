"""Who beats whom: the matrix of all pairs of contenders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf, isnan
from typing import Any

import altair as alt
import pandas as pd

from metabench.views.drawing.contenders import ranking
from metabench.views.drawing.reading import Tables
from metabench.views.report.board import number
from metabench.views.report.charts.fields import comparisons
from metabench.views.report.charts.parts import (
    Chart,
    Control,
    Source,
    chart,
    parameters,
)

ENDS = ("", "_lower", "_upper")
"""Endings of the columns of an estimate and of its interval."""

EVEN = 0.5
"""The probability of improvement of equals."""

OF_PAIRS = (
    "t intervals over paired seeds and tasks: of probabilities on the logit scale, of mean "
    "differences of scores, and of ratios on the log scale"
)
"""Kinds of intervals, which docs/statistics.md explains."""


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
            tooltip=[
                alt.Tooltip("a:N", title="algorithm"),
                alt.Tooltip("b:N", title="opponent"),
                alt.Tooltip("chance:N", title="wins"),
                alt.Tooltip("difference:N", title="difference of scores"),
                alt.Tooltip("ratio:N", title="ratio of scores"),
            ],
        )
    )
    drawn = comparisons(base, "probability", [100, 0], alt.Text("probability:Q", format=".0f"))
    return chart(
        "matrix",
        "Who beats whom",
        "How often the algorithm of a row has a smaller loss than that of a column on the same "
        "seed and task, in percent, a tie counting half; each with its selected cell after its "
        f"selected number of updates. Blue if the row wins more often, orange if the column "
        f"does; grey if the {confidence:.0%} interval of this percentage includes 50. Point at a "
        "field for the mean difference and the ratio of the scores, which may favour the other "
        "side: who wins often may lose by much.",
        Source(tables.size(choice.values[0]), ("comparisons.csv", "ranking.csv"), OF_PAIRS),
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
            wins = [row[f"probability_{end}"] for end in ("of_improvement", "lower", "upper")]
            apart = [row[f"difference{end}"] for end in ENDS]
            times = [row[f"ratio{end}"] for end in ENDS]
            a, b = row["algorithm_a"], row["algorithm_b"]
            turned = _turned(wins, apart, times)
            for one, other, found in ((a, b, (wins, apart, times)), (b, a, turned)):
                yield {
                    "protocol": protocol,
                    "a": label[one],
                    "b": label[other],
                    "rank a": order[one],
                    "rank b": order[other],
                    **_shown(*found),
                }


def _turned(
    wins: Sequence[float], apart: Sequence[float], times: Sequence[float]
) -> tuple[list[float], list[float], list[float]]:
    """Return the numbers of a pair in the other order; each is an estimate, and its interval."""
    swapped = [(found[0], found[2], found[1]) for found in (wins, apart, times)]
    return (
        [1 - value for value in swapped[0]],
        [-value for value in swapped[1]],
        [1 / value if value else inf for value in swapped[2]],
    )


def _shown(wins: Sequence[float], apart: Sequence[float], times: Sequence[float]) -> dict[str, Any]:
    """Return what a field shows, and what its tooltip says."""
    _, lower, upper = wins
    return {
        "probability": number(100 * wins[0]),
        "certain": bool(lower > EVEN or upper < EVEN),
        "chance": _with_interval([100 * value for value in wins], ".0f", " %"),
        "difference": _with_interval(apart, ".3g"),
        "ratio": _with_interval(times, ".3g"),
    }


def _with_interval(found: Sequence[float], form: str, unit: str = "") -> str:
    """Format an estimate and its interval, if it has one."""
    value, *ends = (f"{one:{form}}{unit}" for one in found)
    return value if any(map(isnan, found)) else f"{value} [{', '.join(ends)}]"
