"""The effect of hyperparameters: the validation scores of all candidates."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from metabench.analysis.columns import judged
from metabench.views.drawing.reading import Tables
from metabench.views.report.board import number
from metabench.views.report.charts.parts import (
    NUMBERS,
    Chart,
    Control,
    Source,
    chart,
    chosen_title,
    colours,
    parameters,
    points,
)

STRONG, OTHERS = "datum.role == 'selected' || datum.title == highlight", 0.35
"""Which candidates are drawn strongly, and the opacity of the others."""


def candidates(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the chart of the scores of all candidates against one of their hyperparameters."""
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
            "colour": tables.styles[row["algorithm"]].colour,
            "marker": tables.styles[row["algorithm"]].marker,
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
    which = Control("hyperparameter", "hyperparameter", order)
    who = Control("algorithm", "algorithm", ("all", *sorted(data["label"].unique())))
    ticks = sorted({value for name in axes for value in data[name]}, key=_place)
    mark = (
        alt.Chart(data)
        .transform_filter("datum.protocol == protocol")
        .transform_filter("algorithm == 'all' || datum.label == algorithm")
        .transform_calculate(value="datum[hyperparameter]")
        .mark_point(strokeWidth=1.4)
        .encode(
            x=alt.X("value:N", title=chosen_title("hyperparameter"), sort=ticks)
            .axis(labelAngle=-45)
            .scale(paddingInner=0.5),
            xOffset=alt.XOffset("label:N", sort="ascending"),
            y=alt.Y("validation score:Q")
            .scale(type="log", nice=False, padding=8)
            .axis(format=NUMBERS),
            stroke=colours(data),
            size=alt.condition("datum.title == highlight", alt.value(320), alt.value(70)),
            opacity=alt.condition(STRONG, alt.value(1), alt.value(OTHERS)),
            tooltip=["label", "cell", "role", "validation score", "test score", "updates"],
            **points(data),
        )
    )
    return chart(
        "candidates",
        "Which hyperparameters matter",
        "Mean validation score of every candidate after its best number of updates, against one of "
        "its hyperparameters. Lower is better. Algorithms are side by side "
        "within a value, in the order of their names; strong marks are selected cells. Where "
        "candidates with one value differ much, something else matters more. Click a mark to find "
        "that cell under every other hyperparameter, in the leaderboard if that shows all cells, "
        "and in the charts that have it: most have only published and selected cells.",
        Source(tables.size(choice.values[0]), ("leaderboard.csv",)),
        (choice, who, which),
        mark.add_params(*parameters(choice, who, which)),
        height=320,
    )


def _value_text(value: Any) -> str:
    """Format the value of a hyperparameter."""
    if pd.isna(value):
        return "none"
    return value if isinstance(value, str) else f"{value:g}"


def _place(value: str) -> tuple[bool, float, str]:
    """Return the sort key of a hyperparameter's value: numbers by size, then words."""
    try:
        return False, float(value), ""
    except ValueError:
        return True, 0.0, value
