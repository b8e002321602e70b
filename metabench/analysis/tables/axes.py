"""The position of each protocol in its grid: what the group varies, and the protocol's values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, nan, prod
from typing import Any

import pandas as pd

from metabench.analysis.columns import COUNT, NUMBER, TEXT, Column
from metabench.analysis.measured import Study
from metabench.study.protocols import axes, value_in_words

NAME = "axes.csv"
CAPTION = """
What each group of protocols varies, and the value of each of its protocols: an axis of the grid
figures. Intervals of points that are all combinations of some centers and some widths are two axes.
A group that is one protocol has no row.
"""
COLUMNS = {
    "place": Column(
        COUNT, "Place of the value on the axis, from 0, in the order of the study file."
    ),
    "value": Column(TEXT, "The value as in the study file."),
    "number": Column(
        NUMBER,
        "The value as a number: the multiple of a step size, the middle of an interval, the width "
        "of intervals of points where widths differ; empty if it is none.",
    ),
    "scale": Column(
        TEXT,
        "How to draw the axis: log, linear, or order where values are no numbers.",
    ),
}

OF_POINTS = ("support", "gap", "domain")
"""Axes whose values are intervals of points."""

WIDE = 20
"""Ratio of largest to smallest value from which an axis is logarithmic."""

ORDER = ["group", "protocol", "axis", *COLUMNS]


def build(study: Study) -> pd.DataFrame:
    """Return the table, in the order of the study file."""
    rows = [row for group in study.groups for row in _rows(study, group)]
    return pd.DataFrame(rows, columns=ORDER)


def _rows(study: Study, group: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each protocol of a group and each axis."""
    for axis, values in _apart(axes(study.groups[group])):
        places = list(dict.fromkeys(map(_value_text, values.values())))
        numbers = _numbers(axis, list(values.values()))
        for (protocol, value), number in zip(values.items(), numbers, strict=True):
            yield {
                "group": group,
                "protocol": protocol,
                "axis": axis,
                "place": places.index(_value_text(value)),
                "value": _value_text(value),
                "number": number,
                "scale": _scale(list(values.values()), numbers),
            }


def _apart(found: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each axis, one of intervals that combine centers and widths as these two.

    Example:
        >>> pairs = {"a": [0.0, 2.0], "b": [1.0, 3.0], "c": [-1.0, 3.0], "d": [0.0, 4.0]}
        >>> dict(_apart({"support": pairs}))["support width"]
        {'a': 2.0, 'b': 2.0, 'c': 4.0, 'd': 4.0}
    """
    for axis, values in found.items():
        if axis in OF_POINTS and all(map(_is_interval, values.values())):
            centers = {name: (low + high) / 2 for name, (low, high) in values.items()}
            widths = {name: high - low for name, (low, high) in values.items()}
            counts = [len(set(part.values())) for part in (centers, widths)]
            if min(counts) > 1 and len(set(map(tuple, values.values()))) == prod(counts):
                yield from ((f"{axis} center", centers), (f"{axis} width", widths))
                continue
        yield axis, values


def _value_text(value: Any) -> str:
    """Return a value in words; several step rules or classes become one text."""
    if value is None:
        return "none"
    # The ends of an interval are never of type int here.
    several = isinstance(value, list) and all(isinstance(item, str | int) for item in value)
    return value_in_words(value, several)


def _numbers(axis: str, values: Sequence[Any]) -> list[float]:
    """Return the number of each value of an axis.

    Example:
        >>> _numbers("amplitude", [[1.0, 2.0], [2.0, 4.0]]), _numbers("gap", [None, [-1.0, 1.0]])
        ([1.5, 3.0], [0.0, 2.0])
    """
    ends = [[0.0, 0.0] if value is None else value for value in values]
    if not all(map(_is_interval, ends)):
        return [_number(value) for value in values]
    widths = [high - low for low, high in ends]
    by_width = axis in OF_POINTS and len(set(widths)) > 1
    found = widths if by_width else [(low + high) / 2 for low, high in ends]
    distinct = len(set(found)) == len({tuple(pair) for pair in ends})
    return found if distinct else [nan for _ in found]


def _is_interval(value: Any) -> bool:
    pair = isinstance(value, list) and len(value) == 2
    return pair and all(isinstance(end, float) for end in value)


def _number(value: Any) -> float:
    """Return a value as a number, `own x 4` as 4; nan if it is none."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, list) and value == ["own"]:
        return 1.0
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        found = re.fullmatch("(?:own x |fixed )(.+)", value[0])
        return float(found[1]) if found else nan
    return nan


def _scale(values: Sequence[Any], numbers: Sequence[float]) -> str:
    if any(map(_is_interval, values)) or not all(map(isfinite, numbers)):
        return "order"
    return "log" if 0 < WIDE * min(numbers) <= max(numbers) else "linear"
