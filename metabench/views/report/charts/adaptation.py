"""Speed of adaptation: scores and losses against updates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from metabench.analysis.columns import NO_INTERVAL
from metabench.analysis.statistics.losses import ROUNDING
from metabench.views.drawing.curves import CEILING, ceiling, takes_no_steps
from metabench.views.drawing.lines import Line, lines
from metabench.views.drawing.reading import LEAST, Tables
from metabench.views.drawing.style import in_one_line
from metabench.views.report.board import number
from metabench.views.report.charts.parts import (
    NUMBERS,
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

ARROW = 14
"""Distance between the arrows of two lines that leave the axis, in pixels."""

UPDATES = 20
"""The most updates of a line; of more, some between the first and the last are left out."""

FAINT = 0.15
"""Opacity of a mark next to a highlighted one."""

DASHES = {"published": [1, 0], "selected": [5, 3], "no steps": [8, 2], "baseline": [1, 2]}
"""Dashes of lines, by their role."""


def adaptation(tables: Tables, choice: Control, confidence: float) -> Chart:
    """Return the chart of scores and losses against updates."""
    data = pd.DataFrame(_lines(tables, choice.values))
    who = Control("algorithms", "algorithms", tuple(data["algorithm"].unique()), many=True)
    statistic = Control("statistic", "statistic", tuple(STATISTICS))
    base = (
        alt.Chart(data)
        .transform_filter("datum.protocol == protocol && datum.statistic == statistic")
        .transform_filter("!length(algorithms) || indexof(algorithms, datum.algorithm) >= 0")
        .encode(
            x=alt.X("update:Q", title="updates").axis(tickMinStep=1).scale(nice=False),
            detail="title:N",
            tooltip=["label", "cell", "step", "update", "value", "interval"],
        )
    )
    fitted: dict[str, Any] = {"type": "log", "nice": False}
    height = alt.Y("shown:Q", title=chosen_title("statistic", STATISTICS))
    height = height.scale(**fitted).axis(format=NUMBERS)
    band = base.mark_area(strokeWidth=0).encode(
        y=alt.Y("lower:Q").scale(**fitted),
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
    off = (
        coloured.transform_filter("datum.off != null")
        .mark_point(shape="arrow", size=160, yOffset=alt.ExprRef(f"{ARROW} * datum.below"))
        .encode(y=alt.Y("off:Q").scale(**fitted), opacity=_opacity(1))
    )
    return chart(
        "adaptation",
        "How fast they adapt",
        f"Against the number of updates: mean score and mean loss with {confidence:.0%} intervals "
        "over seeds and tasks, median loss, or the share of adaptations no better than predicting "
        f"zero. {NO_INTERVAL} Solid: published cells; dashed: selected cells; long dashes: trained "
        "methods that take no steps; dotted: baselines. An algorithm has one marker, hollow on its "
        "second line. Arrows at the upper edge mark values off the axis, those of each line at a "
        "height of their own: infinite ones, and losses "
        f"above {CEILING} times that of predicting zero. "
        f"Predictors with a score below {LEAST:g} are not drawn, to leave room for the others. "
        "Open the list of algorithms and tick some to see these alone.",
        Source(tables.size(choice.values[0]), ("adaptation.csv", "leaderboard.csv"), OF_STATISTICS),
        (choice, statistic, Control("scale", "scale", ("log", "linear")), who),
        (band + line + marks + off).add_params(*parameters(choice, statistic, who)),
        height=320,
    )


def _lines(tables: Tables, protocols: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield a row for each line, update and statistic."""
    for protocol in protocols:
        known = tables.rows("adaptation.csv", protocol=protocol, region="all")
        shown = [(line, line.of(known)) for line in lines(tables, protocol)]
        for statistic in STATISTICS:
            top = _top([rows for _, rows in shown], statistic, tables.zero(protocol, statistic))
            leaving = 0
            for line, rows in shown:
                level = line.step == "none" or takes_no_steps(rows)
                place = {"protocol": protocol, "statistic": statistic}
                place |= _about(tables, line, level) | {"below": leaving}
                leaving += bool((~(rows[statistic] <= top)).any())
                for row in _thinned(rows.tail(1) if level else rows).to_dict("records"):
                    # What takes no steps is a level from the left to the right.
                    for update in [0, row["update"]] if level else [row["update"]]:
                        yield place | {"update": int(update), **_heights(row, statistic, top)}


def _top(rows: Sequence[pd.DataFrame], statistic: str, zero: float) -> float:
    """Return the upper edge of an axis, which fits values and intervals that are not too large."""
    found = pd.concat(rows).filter([statistic, f"{statistic}_lower", f"{statistic}_upper"])
    values = found.to_numpy(float)
    fitting = values[np.isfinite(values) & (values > 0) & (values <= ceiling(zero))]
    return float(fitting.max()) if len(fitting) else 1.0


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of some updates of a long line, the first ones and the last among them."""
    last = int(rows["update"].max())
    spaced = {round(last ** (n / UPDATES)) for n in range(UPDATES + 1)}
    return rows if len(rows) <= UPDATES else rows[rows["update"].isin({0, *spaced})]


def _about(tables: Tables, line: Line, level: bool) -> dict[str, Any]:
    """Return the label of a line, given whether it is a level: what takes no steps."""
    published = tables.rows("cells.csv", algorithm=line.algorithm, role="published")["cell"]
    chosen = "published" if line.cell in set(published) else "selected"
    flat = level and line.step != "none"
    return {
        "algorithm": tables.styles[line.algorithm].line,
        "label": in_one_line(line.label) + (", no steps" if flat else ""),
        "colour": tables.styles[line.algorithm].colour,
        "marker": tables.styles[line.algorithm].marker,
        "title": f"{line.algorithm} {line.cell}",
        "kind": "no steps" if flat else "baseline" if level else chosen,
        "cell": line.cell,
        "step": line.step,
    }


def _heights(row: dict[str, Any], statistic: str, top: float) -> dict[str, Any]:
    """Return where a statistic is drawn: 0 is not on a logarithmic axis.

    Args:
        row: Row of the table adaptation.csv.
        statistic: A column of it.
        top: Upper edge of the axis, where values are marked that are not finite or above it.
    """
    value = number(row[statistic])
    lower, upper = (number(row.get(f"{statistic}_{end}")) for end in ("lower", "upper"))
    off = not float(row[statistic]) <= top
    known = [end for end in (lower, upper) if isinstance(end, float)]
    ends = [min(max(end, ROUNDING), top) for end in known]
    whole = len(ends) == 2 and not off
    return {
        "value": value,
        "shown": None if off else value if value or statistic == "failed" else ROUNDING,
        "off": top if off else None,
        "lower": ends[0] if whole else None,
        "upper": ends[1] if whole else None,
        "interval": interval(lower, upper),
    }


def _opacity(strength: float) -> Any:
    """Return the opacity of a mark: faint next to a highlighted one."""
    return alt.condition(
        "highlight == '' || highlight == datum.title",
        alt.value(strength),
        alt.value(FAINT * strength),
    )
