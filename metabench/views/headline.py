"""The headline of a study in Markdown, from its tables alone.

It lists the published and selected cells and the baselines.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from metabench.analysis.statistics.losses import ROUNDING

SHOWN = ("score", "score_lower", "score_upper", "mean", "median")
"""Statistics of a cell."""


def markdown(leaderboard: pd.DataFrame) -> str:
    """Return a Markdown table of the leaderboard's main rows.

    It has the score with its interval, and mean and median loss: for selected cells after the
    number of updates that validation selects, for all others after the last.

    Args:
        leaderboard: The table leaderboard.csv.
    """
    protocols = sorted(leaderboard["protocol"].unique())
    head = [
        "algorithm",
        "cell",
        "adaptation step",
        *(f"{protocol}: score [interval], mean / median loss" for protocol in protocols),
    ]
    lines = [head, ["---"] * len(head), *_rows(leaderboard, protocols)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(leaderboard: pd.DataFrame, protocols: list[str]) -> Iterator[list[str]]:
    by_step = leaderboard.groupby(["algorithm", "step"], sort=True)
    for (algorithm, step), table in by_step:
        if step == "common" and "own" in set(
            leaderboard.loc[leaderboard["algorithm"] == algorithm, "step"]
        ):
            # The leaderboard has rows for both; the headline shows each at its own step.
            continue
        for label, rows in _picks(table):
            chosen = "chosen_" if label == "selected" else ""
            cells = [
                _statistics(rows[rows["protocol"] == protocol], chosen) for protocol in protocols
            ]
            yield [str(algorithm), label, _step(rows), *cells]


def _picks(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the published, the selected and the equal-budget cells.

    Cells are selected for each protocol. Those that differ from the published cell are listed.
    """
    if set(table["step"]) == {"none"}:
        yield "-", table
        return
    published = table[table["role"] == "published"]
    selected = table[table["selected"]]
    same = set(selected["cell"]) == set(published["cell"])
    if len(published):
        yield (
            "published, selected" if same and len(table["cell"].unique()) > 1 else "published",
            published,
        )
    if len(selected) and not same:
        yield "selected", selected
    if len(equal := table[table["role"] == "equal-budget"]):
        yield "equal budget", equal


def _step(rows: pd.DataFrame) -> str:
    kind = rows["step"].iloc[0]
    sizes = ", ".join(
        dict.fromkeys(f"{size:g}" for size in rows.sort_values("protocol")["step_size"].dropna())
    )
    return f"{kind} ({sizes})" if sizes else str(kind)


def _statistics(rows: pd.DataFrame, chosen: str) -> str:
    if len(rows) != 1:
        return ""
    row = rows.iloc[0]
    score, lower, upper, mean, median = (_number(row[f"{chosen}{column}"]) for column in SHOWN)
    return f"{score} [{lower}, {upper}], {mean} / {median}"


def _number(value: float) -> str:
    """Format a loss with three digits, and rounding level as such."""
    return (
        "0 (rounding)"
        if 0 <= value < ROUNDING
        else f"{value:.3g}"
        if value < 1e4
        else f"{value:.2g}"
    )
