"""The effect of hyperparameters: a map of all candidates."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from metabench.analysis.columns import judged
from metabench.views.drawing.reading import Tables
from metabench.views.report.board import number
from metabench.views.report.charts.parts import (
    Chart,
    Control,
    Source,
    chart,
    chosen_title,
    parameters,
)


def candidates(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the map of all candidates over two of their hyperparameters."""
    board = judged(tables["leaderboard.csv"])
    board = board[board["role"].isin(["published", "grid"])]
    board = board.sort_values("validation_score", ascending=False)  # the best is drawn last
    axes = [name for name in tables.hyperparameters if board[name].nunique() > 1]
    if len(board) < 3 or not axes:
        return None
    data = pd.DataFrame(
        {
            "protocol": row["protocol"],
            "label": tables.styles[row["algorithm"]].line,
            "title": f"{row['algorithm']} {row['cell']}",
            "cell": row["cell"],
            "role": "selected" if row["selected"] else row["role"],
            "validation score": number(row["validation_score"]),
            "test score": number(row["chosen_score"]),
            "updates": number(row["updates"]),
            **{name: _value_text(row[name]) for name in axes},
        }
        for row in board.to_dict("records")
    )
    first = [name for name in ("inner_step_size", "meta_step_size") if name in axes]
    order = (*first, *(name for name in axes if name not in first))
    across, along = (
        Control("across", "across", order),
        Control("along", "along", (*order[1:], order[0])),
    )
    who = Control("algorithm", "algorithm", ("all", *sorted(data["label"].unique())))
    ticks = sorted({value for name in axes for value in data[name]}, key=_place)
    mark = (
        alt.Chart(data)
        .transform_filter("datum.protocol == protocol")
        .transform_filter("algorithm == 'all' || datum.label == algorithm")
        .transform_calculate(a="datum[across]", b="datum[along]")
        .mark_circle(stroke="black", strokeWidth=1, opacity=1)
        .encode(
            x=alt.X("a:N", title=chosen_title("across"), sort=ticks).axis(labelAngle=-45),
            y=alt.Y("b:N", title=chosen_title("along"), sort=ticks[::-1]),
            xOffset="label:N",
            color=alt.Color("validation score:Q")
            .scale(type="log", scheme="viridis", reverse=True)
            .legend(title="validation score", orient="bottom", gradientLength=200),
            size=alt.condition("datum.title == highlight", alt.value(320), alt.value(110)),
            strokeOpacity=alt.condition("datum.role == 'selected'", alt.value(1), alt.value(0)),
            tooltip=["label", "cell", "role", "validation score", "test score", "updates"],
        )
    )
    return chart(
        "candidates",
        "Which hyperparameters matter",
        "Every candidate by two of its hyperparameters, coloured by its mean validation score "
        "after its best number of updates; a black rim marks the selected one. Algorithms are side "
        "by side within a field, in the order of their names; where candidates of one algorithm "
        "overlap, the best is on top. Click one to find it in this map, in the leaderboard if that "
        "shows all cells, and in the charts that have it: most have only published and selected "
        "cells.",
        Source(tables.size(choice.values[0]), ("leaderboard.csv",)),
        (choice, who, across, along),
        mark.add_params(*parameters(choice, who, across, along)),
        height=300,
    )


def _value_text(value: Any) -> str:
    """Format the value of a hyperparameter."""
    if pd.isna(value):
        return "-"
    return value if isinstance(value, str) else f"{value:g}"


def _place(value: str) -> tuple[bool, float, str]:
    """Return the sort key of a hyperparameter's value: numbers by size, then words."""
    try:
        return False, float(value), ""
    except ValueError:
        return True, 0.0, value
