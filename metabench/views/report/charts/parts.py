"""Shared parts of charts: the reader's choices, where a chart comes from, the style of marks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import pandas as pd
from matplotlib.markers import MarkerStyle
from matplotlib.transforms import Affine2D

STATISTICS = {
    "score": "score",
    "mean": "mean loss",
    "median": "median loss",
    "failed": "share of failed adaptations",
}
"""The title of the axis of each statistic that a reader may choose."""

NUMBERS = ".4~g"
"""The format of the numbers of an axis of statistics."""

OF_STATISTICS = (
    "t intervals over seeds and tasks (over tasks alone for baselines), of scores on the logit "
    "scale and of mean losses on the log scale; crossed bootstrap intervals of medians"
)
OF_MEANS = "t intervals over seeds and tasks of mean losses, on the log scale"
OF_DIFFERENCES = "t intervals of mean differences of scores, paired on seeds and tasks"
"""Kinds of intervals, which docs/statistics.md explains."""


class Control(NamedTuple):
    """A choice of the reader about a chart.

    Args:
        name: The parameter; `scale` is that of the vertical axis.
        label: Its label.
        values: The choices, of which the first is the default.
        slider: If they are the positions of a slider, what each means by protocol. The last is the
            default then, and the parameter is the position.
        many: Whether the parameter is the list of all that are ticked, at first none.
    """

    name: str
    label: str
    values: tuple[str, ...]
    slider: Mapping[str, Sequence[str]] | None = None
    many: bool = False

    @property
    def default(self) -> str | int | list[str]:
        """The first value of the parameter."""
        if self.many:
            return []
        return len(self.values) - 1 if self.slider else self.values[0]


class Source(NamedTuple):
    """Where the content of a section comes from.

    Args:
        size: The numbers of seeds and test tasks behind it.
        tables: The tables that have it.
        intervals: The kind of its intervals; "" if it has none.
    """

    size: str
    tables: tuple[str, ...]
    intervals: str = ""

    def stored(self, files: Iterable[str]) -> list[str]:
        """Return the files of its tables: a reference has some as parquet.

        Example:
            >>> Source("", ("points.csv", "history.csv")).stored(["history.parquet", "points.csv"])
            ['points.csv', 'history.parquet']
        """
        names = {Path(name).stem: name for name in files}
        return [names[Path(table).stem] for table in self.tables]


class Chart(NamedTuple):
    """One chart.

    Args:
        name: Its name in the page.
        title: Its heading.
        caption: What it shows.
        source: Where its numbers come from.
        controls: The reader's choices.
        spec: Its specification.
    """

    name: str
    title: str
    caption: str
    source: Source
    controls: tuple[Control, ...]
    spec: dict[str, Any]


def interval(lower: Any, upper: Any) -> str:
    """Format an interval."""
    return "none" if lower is None or upper is None else f"[{lower}, {upper}]"


def parameters(*controls: Control) -> list[alt.Parameter]:
    """Return the parameters of a chart: the reader's choices and the highlighted cell."""
    chosen = [alt.param(name=control.name, value=control.default) for control in controls]
    return [*chosen, alt.param(name="highlight", value="")]


def chosen_title(control: str, titles: Mapping[str, str] | None = None) -> str:
    """Return the title of an axis that depends on a choice: an expression, after an equals sign.

    Args:
        control: The choice.
        titles: The title for each of its values; by default the value itself.

    Vega-Lite has no such titles; the page's script turns them into signals of Vega.
    """
    return f"={control}" if titles is None else f"={json.dumps(titles)}[{control}]"


def colours(data: pd.DataFrame) -> alt.Stroke:
    """Return the colours of lines: each algorithm has that of the figures."""
    return alt.Stroke("label:N").scale(**_of_labels(data, "colour")).legend(**LEGEND)


def points(data: pd.DataFrame) -> dict[str, Any]:
    """Return what tells the points of lines apart in grey: the markers of the figures.

    Those of the second and further lines of an algorithm are hollow.
    """
    known = data.drop_duplicates("label")
    first = ~known["marker"].duplicated()
    known = known.assign(
        shape=known["marker"].map(outline), inside=known["colour"].where(first, "white")
    )
    return {
        "shape": alt.Shape("label:N").scale(**_of_labels(known, "shape")).legend(**LEGEND),
        "fill": alt.Fill("label:N").scale(**_of_labels(known, "inside")).legend(**LEGEND),
    }


def dashes(data: pd.DataFrame) -> Any:
    """Return the dashes of lines: each line of an algorithm has its own; baselines are dotted.

    A legend shows the dashes of algorithms around their markers, but markers of baselines whole.
    """
    known = data.drop_duplicates("label")
    places = known.groupby("marker").cumcount() % len(DASHES)
    known = known.assign(dash=places.map(DASHES.__getitem__))
    drawn = alt.StrokeDash("label:N").scale(**_of_labels(known, "dash")).legend(**LEGEND)
    return alt.condition("datum.kind == 'baseline'", alt.value(DOTTED), drawn)


DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [8, 2, 2, 2, 2, 2])
"""Dashes of the lines of one algorithm, in order."""

DOTTED = [1, 2]
"""Dashes of baselines."""

LEGEND: dict[str, Any] = {
    "title": None,
    "orient": "bottom",
    "labelLimit": 240,
    "symbolSize": 80,
    "symbolOpacity": 1,
}


def _of_labels(data: pd.DataFrame, column: str) -> dict[str, Any]:
    """Return the scale that gives each label its value of a column."""
    known = data.drop_duplicates("label")
    return {"domain": list(known["label"]), "range": list(known[column])}


@cache
def outline(marker: str) -> str:
    """Return a marker of the figures as an SVG path between -1 and 1.

    Example:
        >>> outline("^")
        'M0.0,-1.0L-1.0,1.0L1.0,1.0Z'
    """
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform() + Affine2D().scale(2, -2))
    return "".join(
        COMMANDS[int(code)] + ("" if code == path.CLOSEPOLY else ",".join(map(_short, ends)))
        for ends, code in path.iter_segments(simplify=False)
    )


COMMANDS = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
"""The command of SVG for each code of a path of matplotlib."""


def _short(value: float) -> str:
    return str(round(float(value), 3) + 0.0)


def chart(
    name: str,
    title: str,
    caption: str,
    source: Source,
    controls: tuple[Control, ...],
    drawn: Any,
    height: Any,
) -> Chart:
    """Return a chart as wide as the page."""
    spec = drawn.properties(width="container", height=height).to_dict()
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return framed(name, title, caption, source, controls, spec)


def framed(
    name: str,
    title: str,
    caption: str,
    source: Source,
    controls: tuple[Control, ...],
    spec: dict[str, Any],
) -> Chart:
    """Return a chart in the letters of the page, in which a reader can highlight a cell."""
    spec["config"] = {
        "view": {"stroke": None},
        "font": "system-ui, sans-serif",
        "axis": {
            "labelFontSize": 12,
            "labelSeparation": 6,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 8,
        },
        "legend": {
            "labelFontSize": 12,
            "labelSeparation": 6,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
        },
    }
    rows = [row for rows in spec["datasets"].values() for row in rows]
    cells = sorted({row["title"] for row in rows if "title" in row})
    highlight = (Control("highlight", "highlight", ("", *cells)),) if cells else ()
    return Chart(name, title, caption, source, (*controls, *highlight), spec)
