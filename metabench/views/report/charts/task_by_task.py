"""Two contenders on each test task."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import pandas as pd

from metabench.views.drawing.contenders import LOW, contenders, scores_by_task
from metabench.views.drawing.reading import Tables
from metabench.views.report.board import number
from metabench.views.report.charts.parts import (
    Chart,
    Control,
    Source,
    chosen_title,
    framed,
    parameters,
)

SHOWN_TASKS = 200
"""The most test tasks that the chart shows."""

TICKS = [float(f"{n}e{power}") for power in range(-5, 0) for n in (1, 2, 5)] + [1.0]
"""Ticks, at one of which both axes begin."""

SIDE = 420
"""Width and height in pixels, if the page is wide enough."""


def task_by_task(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the chart of two contenders' scores on each task."""
    order = _labels(tables, choice.values)
    if len(order) < 2:
        return None
    data = pd.DataFrame(row for name in choice.values for row in _rows(tables, name))
    across = Control("across", "across", order)
    along = Control("along", "along", (*order[1:], order[0]))
    base = alt.Chart(data).transform_filter("datum.protocol == protocol")
    least = alt.param(name="least", expr=_least(data, order))
    scale = alt.Scale(type="log", domain=[alt.ExprRef("least"), 1], clamp=True)
    ticks = alt.ExprRef(f"slice({TICKS}, indexof({TICKS}, least))")
    axis = alt.Axis(values=ticks, format="~g", labelOverlap="greedy")
    titles = {name: f"score of {name}" for name in order}
    points = (
        base.transform_calculate(
            a=f"isNumber(datum[across]) ? max(datum[across], {LOW}) : null",
            b=f"isNumber(datum[along]) ? max(datum[along], {LOW}) : null",
            one="datum[across]",
            other="datum[along]",
        )
        .mark_circle(size=22, opacity=0.5, color="#0072B2")
        .encode(
            x=alt.X("a:Q", title=chosen_title("across", titles), scale=scale, axis=axis),
            y=alt.Y("b:Q", title=chosen_title("along", titles), scale=scale, axis=axis),
            tooltip=["task", "one:Q", "other:Q"],
        )
    )
    ends = pd.DataFrame({"a": [LOW, 1.0], "b": [LOW, 1.0]})
    equal = alt.Chart(ends).mark_line(color="#6e6e6e", strokeDash=[4, 3], strokeWidth=1)
    diagonal = equal.encode(x=alt.X("a:Q", scale=scale), y=alt.Y("b:Q", scale=scale))
    tasks = data["task"].nunique()
    drawn = (diagonal + points).properties(width=SIDE, height=SIDE, usermeta={"square": True})
    return framed(
        "tasks",
        "Task by task",
        f"Each point is one of the first {tasks} test tasks: the mean scores over the seeds of two "
        "contenders after the last update, each with its selected cell. Above the dashed line, the "
        f"one across is better on this task. Scores below {LOW:g} are drawn there.",
        Source(
            f"{tables.size(choice.values[0])}, of which the first {tasks} tasks",
            ("tasks.parquet", "ranking.csv"),
        ),
        (choice, across, along),
        drawn.add_params(*parameters(choice, across, along), least).to_dict(),
    )


def _least(data: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the expression of where both axes begin: near the lowest score of the chosen ones."""
    lowest = data.groupby("protocol")[list(names)].min().fillna(1.0)
    near = json.dumps(lowest.map(_tick_below).to_dict("index"))
    return f"min({near}[protocol][across], {near}[protocol][along])"


def _tick_below(score: float) -> float:
    """Return the last tick below 1 that a score reaches, or else the first of all.

    Example:
        >>> _tick_below(0.03), _tick_below(1e-9), _tick_below(1.0)
        (0.02, 1e-05, 0.5)
    """
    return max([tick for tick in TICKS[:-1] if tick <= score], default=LOW)


def _labels(tables: Tables, protocols: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of all contenders, those that are trained first, the best before others."""
    found = [side for name in protocols for side in contenders(tables, name)]
    trained = [side for side in found if side.algorithm in tables.every_algorithm]
    return tuple(dict.fromkeys(side.style.line for side in (*trained, *found)))


def _rows(tables: Tables, protocol: str) -> Iterator[dict[str, Any]]:
    """Yield the contenders' mean scores on each task under a protocol, by label."""
    for task, row in scores_by_task(tables, protocol).head(SHOWN_TASKS).iterrows():
        named = {name: number(float(f"{value:.3g}")) for name, value in row.items()}
        yield {"protocol": protocol, "task": task, **named}
