"""Shared parts of charts: the reader's choices, and the style of marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
import pandas as pd


class Control(NamedTuple):
    """A choice of the reader about a chart.

    Args:
        name: The parameter; `scale` is that of the vertical axis.
        label: Its label.
        values: The choices, of which the first is the default.
        slider: If they are the positions of a slider, what each means by protocol. The last is the
            default then, and the parameter is the position.
    """

    name: str
    label: str
    values: tuple[str, ...]
    slider: Mapping[str, Sequence[str]] | None = None

    @property
    def default(self) -> str | int:
        """The first value of the parameter."""
        return len(self.values) - 1 if self.slider else self.values[0]


class Chart(NamedTuple):
    """One chart.

    Args:
        name: Its name in the page.
        title: Its heading.
        caption: What it shows, of how much, and from which table.
        controls: The reader's choices.
        spec: Its specification.
    """

    name: str
    title: str
    caption: str
    controls: tuple[Control, ...]
    spec: dict[str, Any]


def interval(lower: Any, upper: Any) -> str:
    """Format an interval."""
    return "none" if lower is None or upper is None else f"[{lower}, {upper}]"


def parameters(*controls: Control) -> list[alt.Parameter]:
    """Return the parameters of a chart: the reader's choices and the highlighted cell."""
    chosen = [alt.param(name=control.name, value=control.default) for control in controls]
    return [*chosen, alt.param(name="highlight", value="")]


def colours(data: pd.DataFrame) -> alt.Color:
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


def chart(
    name: str,
    title: str,
    caption: str,
    controls: tuple[Control, ...],
    drawn: Any,
    height: Any,
) -> Chart:
    """Return a chart as wide as the page."""
    spec = drawn.properties(width="container", height=height).to_dict()
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return framed(name, title, caption, controls, spec)


def framed(
    name: str, title: str, caption: str, controls: tuple[Control, ...], spec: dict[str, Any]
) -> Chart:
    """Return a chart in the letters of the page."""
    spec["config"] = {
        "view": {"stroke": None},
        "font": "system-ui, sans-serif",
        "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
        "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    }
    return Chart(name, title, caption, controls, spec)
