"""The leaderboard of a report: its rows, and the differences between contenders."""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite
from typing import Any, NamedTuple

import pandas as pd

from metabench.analysis.columns import CHOSEN, MEASURES, judged
from metabench.views.drawing.reading import Tables


class Column(NamedTuple):
    """A column of the leaderboard.

    Args:
        key: Its name in the rows.
        title: Heading of the column.
        help: Help text.
        number: Whether it contains numbers.
    """

    key: str
    title: str
    help: str
    number: bool = True


# What matters comes first: the rest may need scrolling.
COLUMNS = (
    Column("label", "algorithm", "The algorithm, baseline or predictions.", False),
    Column(
        "score",
        "score [interval]",
        "Mean score (loss over that of predicting zero, capped at 1), with its interval.",
    ),
    Column(
        "difference",
        "difference [interval]",
        "Mean score minus that of the reference, paired on seeds and tasks; bold if the interval "
        "excludes 0.",
    ),
    Column("cell", "cell", "Its hyperparameters that differ from the defaults.", False),
    Column(
        "role",
        "role",
        "published: the original source's values; grid: a candidate; equal-budget: "
        "another algorithm's budget; baseline: not trained; predictions: of another program.",
        False,
    ),
    Column(
        "step",
        "step",
        "The step size of adaptation: the algorithm's own, one common to all, tuned on validation "
        "tasks, or what the protocol says.",
        False,
    ),
    Column("updates", "updates", "Number of adaptation updates."),
    Column("failed", "failed", "Share of adaptations no better than predicting zero."),
    Column("mean", "mean loss", "Mean squared error over seeds and tasks."),
    Column("median", "median loss", "Median squared error over seeds and tasks."),
)

DIFFERENCE = ("difference", "difference_lower", "difference_upper")

COPIED = (
    "algorithm",
    "cell",
    "role",
    "protocol",
    "step",
    "updates",
    *MEASURES,
    "reference",
    *DIFFERENCE,
)
"""The fields of a row copied as CSV, each number in full."""


def rows(tables: Tables, protocols: Collection[str]) -> list[dict[str, Any]]:
    """Return the leaderboard's rows: after the last update, and after the selected one."""
    board = _under(tables["leaderboard.csv"], protocols)
    board = board.assign(judged=board.index.isin(judged(board).index))
    last = tables["adaptation.csv"].groupby("protocol")["update"].max()
    found = []
    for row in board.to_dict("records"):
        baseline = row["step"] == "none"
        found.append(
            {
                "algorithm": row["algorithm"],
                "label": tables.styles[row["algorithm"]].line,
                "cell": row["cell"],
                "role": row["role"],
                "protocol": row["protocol"],
                "step": row["step"],
                "judged": row["judged"],
                "selected": bool(row["selected"]),
                "last": {
                    "updates": None if baseline else int(last[row["protocol"]]),
                    **{name: number(row[name]) for name in MEASURES},
                },
                "chosen": {
                    "updates": None if baseline else number(row["updates"]),
                    **_chosen(row, baseline),
                },
            }
        )
    return found


def _chosen(row: dict[str, Any], baseline: bool) -> dict[str, Any]:
    """Return the statistics after the selected number of updates."""
    if baseline:
        return {name: number(row[name]) for name in MEASURES}
    return {name: number(row[column]) for name, column in CHOSEN.items()}


def _under(table: pd.DataFrame, protocols: Collection[str]) -> pd.DataFrame:
    """Return the rows of some protocols; grids have too many for a page."""
    return table[table["protocol"].isin(protocols)]


def pairs(tables: Tables, protocols: Collection[str]) -> list[dict[str, Any]]:
    """Return the differences between contenders on the whole domain."""
    found = _under(tables.rows("comparisons.csv", region="all"), protocols)
    sides = [f"{key}_{side}" for side in "ab" for key in ("algorithm", "cell", "step")]
    keys = ["role", "protocol", *sides]
    return [
        {**{key: row[key] for key in keys}, **{key: number(row[key]) for key in DIFFERENCE}}
        for row in found.to_dict("records")
    ]


def number(value: Any) -> float | str | None:
    """Return a number for JSON: a missing one is None, a non-finite one is text.

    Example:
        >>> number(0.12345678), number(float("inf")), number(float("nan"))
        (0.123457, 'inf', None)
    """
    if value is None or value != value:
        return None
    value = float(value)
    if not isfinite(value):
        return "inf" if value > 0 else "-inf"
    return float(f"{value:.6g}")
