"""The charts of a report, as Vega-Lite specifications that hold their data.

What a reader may choose is a parameter of a chart; the page's script sets it. `highlight` is a cell
that was selected in some chart or in the leaderboard: all charts know it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from metabench.analysis.statistics import ROUNDING
from metabench.views.drawing.contenders import ranking
from metabench.views.drawing.lines import Line, lines
from metabench.views.drawing.reading import LEAST, Tables
from metabench.views.report.board import number

STATISTICS = ("score", "mean", "median", "failed")

SHOWN_SEEDS = 3
"""Seeds whose predictions a report holds."""

FAINT = 0.15
"""How strong a mark is beside a highlighted one, of 1."""

DASHES = {"published": [1, 0], "selected": [5, 3], "baseline": [1, 2]}
"""Dashes of lines, by what they stand for."""


class Control(NamedTuple):
    """What a reader may choose about a chart.

    Args:
        name: The parameter; `scale` is that of the vertical axis.
        label: What stands beside it.
        values: The choices, the first of which is chosen.
    """

    name: str
    label: str
    values: tuple[str, ...]


class Chart(NamedTuple):
    """One chart.

    Args:
        name: Its name in the page.
        title: Its heading.
        caption: What it shows, of how much, and from which table.
        controls: What a reader may choose.
        spec: Its specification.
    """

    name: str
    title: str
    caption: str
    controls: tuple[Control, ...]
    spec: dict[str, Any]


def every(tables: Tables, protocols: Sequence[str], confidence: float) -> list[Chart]:
    """Return the charts of a study.

    Args:
        tables: Tables of the study.
        protocols: Its protocols, the main one first.
        confidence: That of the intervals.
    """
    choice = Control("protocol", "protocol", tuple(protocols))
    makers: tuple[Callable[[Tables, Control, float], Chart | None], ...] = (
        adaptation,
        candidates,
        matrix,
        showcase,
    )
    with alt.data_transformers.enable("default", max_rows=None):
        found = [make(tables, choice, confidence) for make in makers]
    return [chart for chart in found if chart is not None]


def adaptation(tables: Tables, choice: Control, confidence: float) -> Chart:
    """Return the chart of scores and losses against updates."""
    data = pd.DataFrame(_lines(tables, choice.values))
    statistic = Control("statistic", "statistic", STATISTICS)
    base = (
        alt.Chart(data)
        .transform_filter("datum.protocol == protocol && datum.statistic == statistic")
        .encode(
            x=alt.X("update:Q", title="updates", axis=alt.Axis(tickMinStep=1)),
            color=_colours(data),
            detail="title:N",
            tooltip=["label", "cell", "step", "update", "value", "interval"],
        )
    )
    height = alt.Y("shown:Q", title=None).scale(type="log")
    band = base.mark_area(strokeWidth=0).encode(
        y=alt.Y("lower:Q").scale(type="log"), y2="upper:Q", opacity=_opacity(0.08)
    )
    dashes = alt.StrokeDash("kind:N").scale(domain=list(DASHES), range=list(DASHES.values()))
    line = base.mark_line(strokeWidth=1.6).encode(
        y=height, opacity=_opacity(1), strokeDash=dashes.legend(None)
    )
    points = base.mark_point(filled=True, size=14).encode(y=height, opacity=_opacity(1))
    lost = (
        base.transform_filter("datum.lost != null")
        .mark_point(shape="triangle-up", size=60, filled=True)
        .encode(y=alt.Y("lost:Q").scale(type="log"), opacity=_opacity(1))
    )
    return _chart(
        "adaptation",
        "How fast they adapt",
        f"Against the number of updates, over {tables.size(choice.values[0])}: mean score and mean loss "
        f"with {confidence:.0%} intervals over seeds and tasks (t intervals, of the score on the logit "
        "scale and of the mean loss on the log scale; a mean has none where an adaptation diverged), "
        "median loss, or the share of adaptations no better than predicting zero. Solid: published "
        "cells; dashed: those that validation selects; dotted: predictors that take no steps. "
        f"Triangles stand for what is not finite. Predictors with a score below {LEAST:g}, which would leave "
        "no room for the others, are not drawn. Click a name in the legend to see it alone. "
        "Table: adaptation.csv.",
        (choice, statistic, Control("scale", "scale", ("log", "linear"))),
        (band + line + points + lost).add_params(*_parameters(choice, statistic), _legend()),
        height=320,
    )


def _lines(tables: Tables, protocols: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield a row for each line, update and statistic."""
    for protocol in protocols:
        known = tables.rows("adaptation.csv", protocol=protocol, region="all")
        shown = [(line, line.of(known)) for line in lines(tables, protocol)]
        for statistic in STATISTICS:
            values = pd.concat([rows[statistic] for _, rows in shown]).astype(float)
            finite = values[values.abs() < float("inf")]
            top = 2 * float(finite.max()) if len(finite) and finite.max() > 0 else 1.0
            for line, rows in shown:
                place = {"protocol": protocol, "statistic": statistic, **_about(tables, line)}
                for row in rows.to_dict("records"):
                    # A predictor that takes no steps is a level from the left to the right.
                    for update in [0, row["update"]] if line.step == "none" else [row["update"]]:
                        yield place | {"update": int(update), **_heights(row, statistic, top)}


def _about(tables: Tables, line: Line) -> dict[str, Any]:
    """Return what a line is of."""
    published = tables.rows("cells.csv", algorithm=line.algorithm, role="published")["cell"]
    chosen = "published" if line.cell in set(published) else "selected"
    return {
        "label": line.label.replace("\n", ""),
        "colour": tables.styles[line.algorithm].colour,
        "title": f"{line.algorithm} {line.cell}",
        "kind": "baseline" if line.step == "none" else chosen,
        "cell": line.cell,
        "step": line.step,
    }


def _heights(row: dict[str, Any], statistic: str, top: float) -> dict[str, Any]:
    """Return where a statistic is drawn: a logarithmic axis has no place for 0.

    Args:
        row: Of the table adaptation.csv.
        statistic: A column of it.
        top: Where what is not finite is drawn.
    """
    value = number(row[statistic])
    lower, upper = (number(row.get(f"{statistic}_{end}")) for end in ("lower", "upper"))
    lost = value is None or isinstance(value, str)
    ends = [max(end, ROUNDING) if isinstance(end, float) else None for end in (lower, upper)]
    whole = None not in ends
    return {
        "value": value,
        "shown": None if lost else value if value or statistic == "failed" else ROUNDING,
        "lost": top if lost else None,
        "lower": ends[0] if whole else None,
        "upper": ends[1] if whole else None,
        "interval": _interval(lower, upper),
    }


def _interval(lower: Any, upper: Any) -> str:
    """Spell an interval."""
    return "none" if lower is None or upper is None else f"[{lower}, {upper}]"


def candidates(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the map of all candidates over two of their hyperparameters."""
    board = tables["leaderboard.csv"]
    board = board[board["role"].isin(["published", "grid"]) & (board["step"] != "common")]
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
            **{name: _spelled(row[name]) for name in axes},
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
            x=alt.X("a:N", title=None, sort=ticks, axis=alt.Axis(labelAngle=0)),
            y=alt.Y("b:N", title=None, sort=ticks[::-1]),
            xOffset="label:N",
            color=alt.Color("validation score:Q")
            .scale(type="log", scheme="viridis", reverse=True)
            .title("validation score"),
            size=alt.condition("datum.title == highlight", alt.value(320), alt.value(110)),
            strokeOpacity=alt.condition("datum.role == 'selected'", alt.value(1), alt.value(0)),
            tooltip=["label", "cell", "role", "validation score", "test score", "updates"],
        )
    )
    return _chart(
        "candidates",
        "Which hyperparameters matter",
        "Every candidate by two of its hyperparameters, coloured by its mean validation score after "
        "the number of updates that suits it best; a black rim marks the one that validation selects. "
        "Algorithms stand side by side within a field, in the order of their names; where candidates of "
        "one meet, the best is on top. "
        "Click one to find it everywhere on this page. Tables: leaderboard.csv, selection.csv.",
        (choice, who, across, along),
        mark.add_params(*_parameters(choice, who, across, along)),
        height=300,
    )


def _spelled(value: Any) -> str:
    """Spell the value of a hyperparameter."""
    if pd.isna(value):
        return "-"
    return value if isinstance(value, str) else f"{value:g}"


def _place(value: str) -> tuple[bool, float, str]:
    """Return what values of hyperparameters are sorted by: numbers by size, then words."""
    try:
        return False, float(value), ""
    except ValueError:
        return True, 0.0, value


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
            y=alt.Y("a:N", title=None, sort=alt.EncodingSortField("rank a", "min")),
            tooltip=["a", "b", "probability", "interval", "difference", "ratio"],
        )
    )
    field = base.mark_rect().encode(
        color=alt.Color("probability:Q", title="wins, in %").scale(
            scheme="blueorange", domain=[0, 100], reverse=True
        )
    )
    text = base.mark_text(fontSize=10).encode(
        text=alt.Text("probability:Q", format=".0f"),
        color=alt.condition(
            "abs(datum.probability - 50) > 35", alt.value("white"), alt.value("black")
        ),
        opacity=alt.condition("datum.sure", alt.value(1), alt.value(0.45)),
    )
    return _chart(
        "matrix",
        "Who beats whom",
        "How often the algorithm of a row has a smaller loss than that of a column on the same seed "
        "and task, in per cent, ties half; each with its selected cell after the number of updates "
        f"that validation chooses. Faint where the {confidence:.0%} interval of the mean difference of "
        f"scores includes 0. Over {tables.size(choice.values[0])}. Table: comparisons.csv.",
        (choice,),
        (field + text).add_params(*_parameters(choice)),
        height=22 * data["a"].nunique(),
    )


def _both_ways(
    tables: Tables, rows: pd.DataFrame, protocols: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Yield each pair twice, once for each of the two as the first."""
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
                    "interval": _interval(number(lower), number(upper)),
                    "ratio": number(times),
                    "sure": bool(lower > 0 or upper < 0),
                }


def showcase(tables: Tables, choice: Control, confidence: float) -> Chart | None:
    """Return the picture of one wave before and after adaptation."""
    rows = tables["showcase.csv"]
    if not len(rows) or "x" not in rows:
        return None  # in two dimensions it is a map: see the figures
    rows = rows[rows["seed"] < SHOWN_SEEDS]
    first = rows.groupby(["algorithm", "protocol"])["cell"].transform("min")
    data = _predictions(tables, rows[rows["cell"] == first])
    names = sorted(rows["algorithm"].unique())
    styles = pd.DataFrame(
        {"label": tables.styles[name].line, "colour": tables.styles[name].colour} for name in names
    )
    who = Control("algorithm", "algorithm", tuple(sorted(styles["label"])))
    when = Control("when", "predictions", ("after", "before"))
    base = (
        alt.Chart(data)
        .transform_filter("datum.protocol == protocol && datum.label == algorithm")
        .transform_calculate(y="datum[when]")
        .encode(x=alt.X("x:Q", title="x"))
    )
    truth = (
        base.transform_filter("datum.seed == 0")
        .mark_line(strokeDash=[2, 2], color="black")
        .encode(y=alt.Y("truth:Q", title="y").scale(zero=False))
    )
    curve = base.mark_line(clip=True).encode(
        y="y:Q",
        color=_colours(styles).legend(None),
        detail="seed:N",
        opacity=alt.condition("datum.seed == 0", alt.value(1), alt.value(0.35)),
        tooltip=["label", "seed", "x", "y:Q"],
    )
    points = (
        alt.Chart(_points(tables, choice.values))
        .transform_filter("datum.protocol == protocol")
        .mark_point(filled=True, color="black", size=60)
        .encode(x="x:Q", y="y:Q", tooltip=["x", "y"])
    )
    return _chart(
        "showcase",
        "One wave",
        f"Predictions for one wave by the first of {min(SHOWN_SEEDS, rows['seed'].nunique())} seeds "
        "(the others faint), before adaptation and after a protocol's last update, of the published cell "
        "or else the selected one; algorithms with a step size of their own adapt with it, others with "
        "the study's common one. The dotted line is the wave, the points are what was given; a curve "
        "breaks off where it leaves the picture. An illustration: no conclusion rests on it. "
        "Tables: showcase.csv, points.csv.",
        (choice, who, when),
        (truth + curve + points).add_params(*_parameters(choice, who, when)),
        height=280,
    )


def _predictions(tables: Tables, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions of each seed, and the wave; a gap where one leaves the picture."""
    most = 2 * float(rows["truth"].abs().max())
    labels = {name: style.line for name, style in tables.styles.items()}
    heights = rows[["truth", "before", "after"]]
    shown = heights.where(heights.abs() < most).round(3)
    about = rows[["protocol", "seed", "x"]].round({"x": 3})
    return about.assign(label=rows["algorithm"].map(labels), **shown)


def _points(tables: Tables, protocols: tuple[str, ...]) -> pd.DataFrame:
    points = tables["points.csv"]
    return points[points["protocol"].isin(protocols)].round(3)


# What charts share.


def _parameters(*controls: Control) -> list[alt.Parameter]:
    """Return the parameters of a chart: what a reader may choose, and the highlighted cell."""
    chosen = [alt.param(name=control.name, value=control.values[0]) for control in controls]
    return [*chosen, alt.param(name="highlight", value="")]


def _legend() -> alt.Parameter:
    return alt.selection_point(name="named", fields=["label"], bind="legend")


def _opacity(strength: float) -> Any:
    """Return how strong a mark is: faint beside a highlighted cell, or one picked in the legend."""
    picked = "(!length(data('named_store')) || vlSelectionTest('named_store', datum))"
    return alt.condition(
        f"{picked} && (highlight == '' || highlight == datum.title)",
        alt.value(strength),
        alt.value(FAINT * strength),
    )


def _colours(data: pd.DataFrame) -> alt.Color:
    """Return the colours of lines: each algorithm has that of the figures."""
    known = data.drop_duplicates("label")
    return (
        alt.Color("label:N")
        .scale(domain=list(known["label"]), range=list(known["colour"]))
        .legend(
            title=None,
            orient="bottom",
            labelLimit=240,
            symbolType="stroke",
            symbolStrokeWidth=3,
            symbolOpacity=1,
        )
    )


def _chart(
    name: str,
    title: str,
    caption: str,
    controls: tuple[Control, ...],
    drawn: Any,
    height: Any,
) -> Chart:
    """Return a chart as wide as the page."""
    spec = drawn.properties(width="container", height=height).to_dict()
    spec["config"] = {
        "view": {"stroke": None},
        "font": "system-ui, sans-serif",
        "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
        "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    }
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return Chart(name, title, caption, controls, spec)
