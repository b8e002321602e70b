"""Predictive distributions: likelihood and calibration of labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Any

import altair as alt
import pandas as pd

from metabench.views.drawing.reading import Tables
from metabench.views.report.board import number
from metabench.views.report.charts.parts import (
    Chart,
    Control,
    Source,
    chart,
    chosen_title,
    interval,
    parameters,
)

MEASURES = {
    "negative log likelihood": "nll",
    "calibration error": "calibration_error",
    "sharpness": "sharpness",
    "share of labels within 90 %": "coverage_90",
    "share of labels within 50 %": "coverage_50",
}
"""Column of each measure that the reader may choose."""

REGIONS = ("all", "seen", "unseen")

LETTERS = 30
"""The most letters of a label in one line."""

LINE = 14
"""Height of a line of a label in pixels."""


def distributions(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the chart of predictive distributions, which studies with noisy labels have."""
    noisy = [name for name in choice.values if name in tables.noisy_protocols]
    if not noisy:
        return None
    data = pd.DataFrame(_rows(tables, noisy))
    region = Control(
        "region", "query points", tuple(name for name in REGIONS if name in set(data["region"]))
    )
    measure = Control("measure", "measure", tuple(MEASURES))
    base = (
        alt.Chart(data)
        .transform_filter("datum.protocol == protocol && datum.region == region")
        .transform_calculate(
            value="datum[measure]",
            lower=f"measure == '{measure.values[0]}' ? datum.lower : null",
            upper=f"measure == '{measure.values[0]}' ? datum.upper : null",
        )
        .encode(
            y=alt.Y("name:N", title=None, sort=alt.EncodingSortField("value", "min")).axis(
                labelLimit=0,
                labelLineHeight=LINE,
                labelExpr=r"split(datum.label, '\n')",
                grid=True,
            ),
            color=alt.Color("colour:N").scale(None),
            opacity=alt.condition(
                "highlight == '' || highlight == datum.title", alt.value(1), alt.value(0.2)
            ),
            tooltip=["label", "cell", "role", "interval", *MEASURES],
        )
    )
    ends = base.mark_rule(strokeWidth=2).encode(x=alt.X("lower:Q"), x2="upper:Q")
    lines = 1 + data["name"].str.count("\n").max()
    x = alt.X("value:Q", title=chosen_title("measure")).scale(zero=False)
    points = base.mark_point(filled=True, size=70).encode(x=x)
    return chart(
        "distributions",
        "Predictive distributions",
        "Distributions of noisy labels after the last update, by baselines and every cell that "
        "predicts a variance, named by what differs between the cells of its algorithm; none under "
        "protocols without noise. The negative log likelihood and the calibration error should be "
        "small, and shares of labels should equal the level of their interval. Point at a mark for "
        "the whole name of its cell, all measures and the "
        f"{confidence:.0%} interval of the likelihood.",
        Source(
            tables.size(noisy[0]),
            ("predictive.csv",),
            "t intervals over seeds and tasks of the likelihood",
        ),
        (choice, region, measure),
        (ends + points).add_params(*parameters(choice, region, measure)),
        height=int(data.groupby(["protocol", "region"]).size().max() * (LINE * lines + 6)),
    )


def _rows(tables: Tables, protocols: list[str]) -> Iterator[dict[str, Any]]:
    """Yield a mark for each row of the table."""
    rows = tables["predictive.csv"]
    own = _own_parts(rows)
    for row in rows[rows["protocol"].isin(protocols)].to_dict("records"):
        style = tables.styles[row["algorithm"]]
        name = style.line
        lower, upper = number(row["nll_lower"]), number(row["nll_upper"])
        yield {
            "protocol": row["protocol"],
            "region": row["region"],
            "label": name,
            "colour": style.colour,
            "title": f"{row['algorithm']} {row['cell']}",
            "name": _wrapped([name, *own[row["algorithm"], row["cell"]]]),
            "cell": row["cell"],
            "role": row["role"],
            "lower": lower,
            "upper": upper,
            "interval": interval(lower, upper),
            **{measure: number(row[column]) for measure, column in MEASURES.items()},
        }


def _wrapped(parts: Sequence[str]) -> str:
    r"""Return parts of a label in lines, broken between them.

    Example:
        >>> _wrapped(["Deep kernel transfer", "meta 0.001", "shots 5"])
        'Deep kernel transfer,\nmeta 0.001, shots 5'
    """
    whole = ", ".join(part.replace(" ", "\xa0") for part in parts)
    return "\n".join(wrap(whole, LETTERS)).replace("\xa0", " ")


def _own_parts(rows: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """Return the parts of each cell's name that some other cell of its algorithm lacks."""
    found = {}
    for algorithm, cells in rows.groupby("algorithm")["cell"]:
        parts = {cell: cell.split(", ") for cell in cells.unique()}
        shared = set.intersection(*map(set, parts.values()))
        for cell, named in parts.items():
            found[algorithm, cell] = [part for part in named if part not in shared]
    return found
