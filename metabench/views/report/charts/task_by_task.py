"""Two contenders on each test task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import pandas as pd

from metabench.learning.scores import scores
from metabench.views.drawing.contenders import contenders
from metabench.views.drawing.reading import Tables
from metabench.views.report.board import in_one_line, number
from metabench.views.report.charts.parts import Chart, Control, Source, chart, parameters

SHOWN_TASKS = 200
"""The most test tasks that the chart shows."""

LOW = 1e-5
"""Lower scores are drawn here."""

TICKS = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]


def task_by_task(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the chart of two contenders' scores on each task."""
    order = _labels(tables, choice.values)
    if len(order) < 2:
        return None
    data = pd.DataFrame(row for name in choice.values for row in _rows(tables, name))
    across = Control("across", "across", order)
    along = Control("along", "along", (*order[1:], order[0]))
    base = alt.Chart(data).transform_filter("datum.protocol == protocol")
    scale = alt.Scale(type="log", domain=[LOW, 1], clamp=True)
    axis = alt.Axis(values=TICKS, format="~g")
    points = (
        base.transform_calculate(
            a=f"isNumber(datum[across]) ? max(datum[across], {LOW}) : null",
            b=f"isNumber(datum[along]) ? max(datum[along], {LOW}) : null",
            one="datum[across]",
            other="datum[along]",
        )
        .mark_circle(size=22, opacity=0.5, color="#0072B2")
        .encode(
            x=alt.X("a:Q", title="score of the one across", scale=scale, axis=axis),
            y=alt.Y("b:Q", title="score of the one along", scale=scale, axis=axis),
            tooltip=["task", "one:Q", "other:Q"],
        )
    )
    ends = pd.DataFrame({"a": [LOW, 1.0], "b": [LOW, 1.0]})
    equal = alt.Chart(ends).mark_line(color="#6e6e6e", strokeDash=[4, 3], strokeWidth=1)
    diagonal = equal.encode(x=alt.X("a:Q", scale=scale), y=alt.Y("b:Q", scale=scale))
    tasks = data["task"].nunique()
    return chart(
        "tasks",
        "Task by task",
        f"Each point is one of the first {tasks} test tasks: the mean scores over the seeds of two "
        "contenders after the last update, each with its selected cell. Above the dashed line, the "
        "one across is better on this task. Scores below "
        f"{LOW:g} are drawn there.",
        Source(
            f"{tables.size(choice.values[0])}, of which the first {tasks} tasks",
            ("tasks.parquet", "ranking.csv"),
        ),
        (choice, across, along),
        (diagonal + points).add_params(*parameters(choice, across, along)),
        height=340,
    )


def _labels(tables: Tables, protocols: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of all contenders, those that are trained first, the best before others."""
    found = [side for name in protocols for side in contenders(tables, name)]
    trained = [side for side in found if side.algorithm in tables.every_algorithm]
    return tuple(dict.fromkeys(in_one_line(side.style.label) for side in (*trained, *found)))


def _rows(tables: Tables, protocol: str) -> Iterator[dict[str, Any]]:
    """Yield the contenders' mean scores on each task under a protocol, by label."""
    rows = tables.rows("tasks.parquet", protocol=protocol, region="all")
    rows = rows[rows["task"] < SHOWN_TASKS]
    zero = rows[rows["algorithm"] == "zero"].set_index("task")["loss"]
    found = {}
    for side in contenders(tables, protocol):
        mine = rows[(rows["algorithm"] == side.algorithm) & (rows["cell"] == side.cell)]
        found[in_one_line(side.style.label)] = (
            mine.assign(score=scores(mine["loss"].to_numpy(), zero[mine["task"]].to_numpy()))
            .groupby("task")["score"]
            .mean()
        )
    for task, row in pd.DataFrame(found).iterrows():
        named = {name: number(float(f"{value:.3g}")) for name, value in row.items()}
        yield {"protocol": protocol, "task": task, **named}
