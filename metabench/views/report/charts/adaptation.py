"""Speed of adaptation: scores and losses against updates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from metabench.analysis.statistics.losses import ROUNDING
from metabench.views.drawing.lines import Line, lines
from metabench.views.drawing.reading import LEAST, Tables
from metabench.views.report.board import number
from metabench.views.report.charts.parts import (
    OF_STATISTICS,
    STATISTICS,
    Chart,
    Control,
    Source,
    chart,
    chosen_title,
    colours,
    interval,
    parameters,
    points,
)

UPDATES = 20
"""The most updates of a line; of more, some between the first and the last are left out."""

FAINT = 0.15
"""Opacity of a mark next to a highlighted one."""

DASHES = {"published": [1, 0], "selected": [5, 3], "baseline": [1, 2]}
"""Dashes of lines, by their role."""


def adaptation(tables: Tables, choice: Control, confidence: float) -> Chart:
    """Return the chart of scores and losses against updates."""
    data = pd.DataFrame(_lines(tables, choice.values))
    statistic = Control("statistic", "statistic", tuple(STATISTICS))
    base = (
        alt.Chart(data)
        .transform_filter("datum.protocol == protocol && datum.statistic == statistic")
        .encode(
            x=alt.X("update:Q", title="updates", axis=alt.Axis(tickMinStep=1)),
            detail="title:N",
            tooltip=["label", "cell", "step", "update", "value", "interval"],
        )
    )
    height = alt.Y("shown:Q", title=chosen_title("statistic", STATISTICS)).scale(type="log")
    band = base.mark_area(strokeWidth=0).encode(
        y=alt.Y("lower:Q").scale(type="log"),
        y2="upper:Q",
        color=alt.Color("colour:N").scale(None),
        opacity=_opacity(0.08),
    )
    dashes = alt.StrokeDash("kind:N").scale(domain=list(DASHES), range=list(DASHES.values()))
    coloured = base.encode(stroke=colours(data))
    line = coloured.mark_line(strokeWidth=1.6).encode(
        y=height, opacity=_opacity(1), strokeDash=dashes.legend(None)
    )
    marks = coloured.mark_point(size=40, strokeWidth=1.4).encode(
        y=height, opacity=_opacity(1), **points(data)
    )
    lost = (
        coloured.transform_filter("datum.lost != null")
        .mark_point(shape="triangle-up", size=60)
        .encode(y=alt.Y("lost:Q").scale(type="log"), opacity=_opacity(1))
    )
    return chart(
        "adaptation",
        "How fast they adapt",
        f"Against the number of updates: mean score and mean loss with {confidence:.0%} intervals "
        "over seeds and tasks (a mean has none if an adaptation diverged), median loss, or the "
        "share of adaptations no better than predicting zero. Solid: published cells; dashed: "
        "selected cells; dotted: predictors without gradient steps. An algorithm has one marker, "
        "hollow on its second line. Triangles mark values that are not finite. Predictors with a "
        f"score below {LEAST:g} are not drawn, to leave room for the others. Click a name in the "
        "legend to see it alone.",
        Source(tables.size(choice.values[0]), ("adaptation.csv", "leaderboard.csv"), OF_STATISTICS),
        (choice, statistic, Control("scale", "scale", ("log", "linear"))),
        (band + line + marks + lost).add_params(*parameters(choice, statistic), _legend()),
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
                for row in _thinned(rows).to_dict("records"):
                    # A predictor that takes no steps is a level from the left to the right.
                    for update in [0, row["update"]] if line.step == "none" else [row["update"]]:
                        yield place | {"update": int(update), **_heights(row, statistic, top)}


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of some updates of a long line, the first ones and the last among them."""
    last = int(rows["update"].max())
    spaced = {round(last ** (n / UPDATES)) for n in range(UPDATES + 1)}
    return rows if len(rows) <= UPDATES else rows[rows["update"].isin({0, *spaced})]


def _about(tables: Tables, line: Line) -> dict[str, Any]:
    """Return the label of a line."""
    published = tables.rows("cells.csv", algorithm=line.algorithm, role="published")["cell"]
    chosen = "published" if line.cell in set(published) else "selected"
    return {
        "label": line.label.replace("\n", ""),
        "colour": tables.styles[line.algorithm].colour,
        "marker": tables.styles[line.algorithm].marker,
        "title": f"{line.algorithm} {line.cell}",
        "kind": "baseline" if line.step == "none" else chosen,
        "cell": line.cell,
        "step": line.step,
    }


def _heights(row: dict[str, Any], statistic: str, top: float) -> dict[str, Any]:
    """Return where a statistic is drawn: 0 is not on a logarithmic axis.

    Args:
        row: Row of the table adaptation.csv.
        statistic: A column of it.
        top: Position of non-finite values.
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
        "interval": interval(lower, upper),
    }


def _legend() -> alt.Parameter:
    return alt.selection_point(name="named", fields=["label"], bind="legend")


def _opacity(strength: float) -> Any:
    """Return the opacity of a mark: faint next to one highlighted or picked in the legend."""
    picked = "(!length(data('named_store')) || vlSelectionTest('named_store', datum))"
    return alt.condition(
        f"{picked} && (highlight == '' || highlight == datum.title)",
        alt.value(strength),
        alt.value(FAINT * strength),
    )
