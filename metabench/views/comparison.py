"""A page that compares what two studies share."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from metabench.analysis.paired import CONFIDENCE, tables_of
from metabench.records import manifests
from metabench.records.artifacts import write_text
from metabench.views.drawing.style import compact, styles
from metabench.views.report import HERE, json_text, library
from metabench.views.report.board import number
from metabench.views.report.charts.parts import OF_DIFFERENCES

COLOURS = {"better": "#0072B2", "worse": "#D55E00", "open": "#777777", "equal": "#bbbbbb"}
"""Colours of verdicts, which are about the first study."""

SHAPES = {"better": "circle", "worse": "square", "open": "diamond", "equal": "triangle-up"}
"""Their shapes."""

LETTERS = 48
"""The most letters in a line above an interval, which fit on a phone."""

LINE, GAP, BELOW = 13, 32, 22
"""Pixels of such a line, of the interval with its distances, and of that to the next row."""


def write(found: pd.DataFrame, a: Path, b: Path, out: Path) -> None:
    """Write the page.

    Args:
        found: The result of `metabench.analysis.paired.compare`.
        a: Folder of the first study, or of its tables.
        b: That of the second one.
        out: The file.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    differing = found.sort_values("verdict", key=lambda names: names == "equal", kind="stable")
    rows = [_row(row) for row in differing.to_dict("records")]
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True
    ).get_template("comparison.html.j2")
    text = template.render(
        sides={str(side): manifests.read(tables_of(side))["content"] for side in (a, b)},
        intervals=f"{CONFIDENCE:.0%} {OF_DIFFERENCES}".replace("%", " %"),
        rows=rows,
        counts=found["verdict"].value_counts().to_dict(),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        library=library(),
        chart=json_text(_chart(rows)),
    )
    write_text(out, text)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    label = styles([row["algorithm"]])[row["algorithm"]].line
    cells = row["cell_a"] if row["pair"] == "cell" else f"{row['cell_a']} | {row['cell_b']}"
    numbers = ("score_a", "score_b", "difference", "difference_lower", "difference_upper")
    name = label if cells == "-" else f"{label}, {cells}"
    place = "\n".join(wrap(f"{row['protocol']}: {name}", LETTERS))
    shown = {"name": name, "place": place, "text": {key: compact(row[key]) for key in numbers}}
    return {**row, **shown, **{key: number(row[key]) for key in numbers}}


def _chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the differences with their intervals, each below the name of its pair."""
    drawn = [row for row in rows if row["verdict"] != "equal"] or rows
    counts = [one["place"].count("\n") + 1 for one in drawn]
    most = max(counts)
    # Empty lines on top, so that the last line of each name is just above its interval.
    lines = ["\n" * (most - n) + one["place"] for n, one in zip(counts, drawn, strict=True)]
    known = [verdict for verdict in COLOURS if verdict in {one["verdict"] for one in drawn}]
    row = LINE * most + GAP
    below = row / 2 - BELOW
    data = pd.DataFrame(drawn).drop(columns="text").assign(lines=lines)
    base = alt.Chart(data).encode(
        y=alt.Y("place:N", title=None, sort=None, axis=None),
        color=alt.Color("verdict:N", title="the first is", legend=alt.Legend(orient="top")).scale(
            domain=known, range=[COLOURS[verdict] for verdict in known]
        ),
        tooltip=[
            "name",
            "score_a",
            "score_b",
            "difference",
            "difference_lower",
            "difference_upper",
        ],
    )
    # Linear up to the typical difference, so that a large one leaves room for the others.
    typical = float(np.median([abs(one["difference"]) for one in drawn])) or 1.0
    ends = base.mark_rule(yOffset=below).encode(
        x=alt.X("difference_lower:Q", title="score of the first - score of the second")
        .axis(grid=False, tickCount=5)
        .scale(type="symlog", constant=typical),
        x2="difference_upper:Q",
    )
    shape = alt.Shape("verdict:N").scale(domain=known, range=[SHAPES[one] for one in known])
    points = base.mark_point(filled=True, size=50, yOffset=below).encode(
        x="difference:Q", shape=shape
    )
    names = base.mark_text(
        align="left", baseline="top", lineBreak="\n", dy=-row / 2, color="black"
    ).encode(x=alt.value(0), text="lines:N", color=alt.value("black"))
    zero = alt.Chart().mark_rule(strokeDash=[2, 2], color="#cccccc").encode(x=alt.datum(0))
    with alt.data_transformers.enable("default", max_rows=None):
        chart = (zero + ends + points + names).properties(
            width="container", height=row * len({one["place"] for one in drawn})
        )
        return dict(chart.configure_view(stroke=None).to_dict())
