"""A page that compares what two studies share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from metabench.records.artifacts import write_text
from metabench.views.drawing.style import styles
from metabench.views.report import HERE, json_text, library
from metabench.views.report.board import number

COLOURS = {"better": "#0072B2", "worse": "#D55E00", "open": "#777777", "equal": "#bbbbbb"}
"""Colours of verdicts, which are about the first study."""


def write(found: pd.DataFrame, a: str, b: str, out: Path) -> None:
    """Write the page.

    Args:
        found: The result of `metabench.analysis.paired.compare`.
        a: Name of the first study.
        b: Name of the second one.
        out: The file.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    differing = found.sort_values("verdict", key=lambda names: names == "equal", kind="stable")
    rows = [_row(row) for row in differing.to_dict("records")]
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True
    ).get_template("comparison.html.j2")
    text = template.render(
        a=a,
        b=b,
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
    place = f"{row['protocol']}: {name}"
    return {**row, "name": name, "place": place, **{key: number(row[key]) for key in numbers}}


def _chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the differences with their intervals."""
    drawn = [row for row in rows if row["verdict"] != "equal"] or rows
    base = alt.Chart(pd.DataFrame(drawn)).encode(
        y=alt.Y("place:N", title=None, sort=None, axis=alt.Axis(labelLimit=460)),
        color=alt.Color("verdict:N", title="the first is").scale(
            domain=list(COLOURS), range=list(COLOURS.values())
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
    ends = base.mark_rule().encode(
        x=alt.X("difference_lower:Q", title="score of the first - score of the second"),
        x2="difference_upper:Q",
    )
    points = base.mark_point(filled=True, size=50).encode(x="difference:Q")
    zero = alt.Chart().mark_rule(strokeDash=[2, 2]).encode(x=alt.datum(0))
    with alt.data_transformers.enable("default", max_rows=None):
        return dict((ends + points + zero).properties(width=420).to_dict())
