"""Published numbers and ours in Markdown, as the pages and the command print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd


def table(found: pd.DataFrame) -> str:
    """Return the table for a reader: published and ours with their intervals, and the verdict."""
    head = [
        "source",
        "setting",
        "method",
        "shots",
        "steps",
        "published",
        "ours [95 %], median",
        "verdict",
    ]
    lines = [head, ["---"] * len(head)]
    for row in found.itertuples():
        half = (
            "" if np.isnan(row.published_lower) else f" ± {row.published_upper - row.published:.2g}"
        )
        shots = f"{row.trained} / {row.tested}"
        note = f" ({row.note})" if isinstance(row.note, str) and row.note else ""
        source = f"[{row.source}]({row.link})"
        published = f"{row.published:g}{half}"
        lines.append(
            [
                source,
                row.setting,
                row.method,
                shots,
                str(row.update),
                published,
                _measured(row),
                row.verdict + note,
            ]
        )
    return _rows(lines)


def _measured(row: Any) -> str:
    """Return our mean with its interval, our median, and how many adaptations diverged.

    The mean may have no interval (`metabench.analysis.statistics.intervals.determined`).
    """
    ends = row.ours_lower, row.ours_upper
    interval = "" if np.isnan(ends).any() else f" [{_number(ends[0])}, {_number(ends[1])}]"
    diverged = f", {100 * row.diverged_share:.2g} % diverged" if row.diverged_share else ""
    return f"{_number(row.ours)}{interval}, {_number(row.ours_median)}{diverged}"


def summary(found: pd.DataFrame) -> str:
    """Return the number of verdicts of each kind for each source, as a short summary."""
    counts = pd.crosstab([found["source"], found["setting"]], found["verdict"])
    counts = counts.reindex(
        found[["source", "setting"]].drop_duplicates().itertuples(index=False, name=None)
    )
    verdicts = [
        name for name in ("reproduced", "better", "worse", "not comparable") if name in counts
    ]
    links = dict(zip(found["source"], found["link"], strict=True))
    lines = [["source", "setting", *verdicts], ["---"] * (2 + len(verdicts))]
    for (source, setting), row in counts[verdicts].iterrows():
        lines.append([f"[{source}]({links[source]})", setting, *map(str, row)])
    return _rows(lines)


def variations(found: pd.DataFrame) -> str:
    """Return the variations for a reader, a row for each case.

    It has means, medians and diverged shares after each step.
    """
    lines = [["variation", "case", "steps", "mean", "median", "diverged"], ["---"] * 6]
    previous = ""
    for (variation, case), rows in found.groupby(["variation", "case"], sort=False):
        numbers = (rows[name].map(_number) for name in ("ours", "ours_median"))
        shares = rows["diverged_share"].map(lambda share: f"{100 * share:.2g} %" if share else "0")
        columns = (rows["update"].map(str), *numbers, shares)
        lines.append(
            [
                variation if variation != previous else "",
                case,
                *(" / ".join(column) for column in columns),
            ]
        )
        previous = variation
    return _rows(lines)


def _rows(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1e4 else f"{value:.1e}"
