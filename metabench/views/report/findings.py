"""The findings of a study in a few sentences, from its tables alone."""

from __future__ import annotations

from math import isfinite
from typing import Any

import pandas as pd

from metabench.views.drawing.reading import Tables

UNTRAINED = "random"
"""The algorithm whose initialization is not trained."""


def sentences(tables: Tables, protocols: list[str], confidence: float) -> list[str]:
    """Return a study's findings: who is ahead under each protocol, and with what certainty.

    Args:
        tables: Tables of the study.
        protocols: The protocols to describe, the main one first.
        confidence: Confidence level of the intervals.
    """
    found = []
    for protocol in protocols:
        ranked = tables.rows("ranking.csv", protocol=protocol, role="selected")
        ranked = ranked.sort_values(["score", "algorithm"])
        known = [name for name in tables.every_algorithm if name != UNTRAINED]
        trained = ranked[ranked["algorithm"].isin(known)]
        if len(trained):
            sentence = _leader(tables, protocol, trained.iloc[0])
            if len(trained) > 1:
                sentence += _runner_up(
                    tables, protocol, trained.iloc[0], trained.iloc[1], confidence
                )
            found.append(sentence)
    return [*found, *_yardsticks(tables, protocols[0])] or ["This study has nothing to compare."]


def _leader(tables: Tables, protocol: str, best: Any) -> str:
    """Say which trained algorithm has the lowest score."""
    if best["score"] >= 1:
        return f"Under {protocol}, no trained algorithm is better than predicting zero."
    row = tables.rows(
        "leaderboard.csv",
        protocol=protocol,
        algorithm=best["algorithm"],
        cell=best["cell"],
        step=best["step"],
    ).iloc[0]
    lower, upper = row["chosen_score_lower"], row["chosen_score_upper"]
    interval = f" [{lower:.3g}, {upper:.3g}]" if isfinite(lower) and isfinite(upper) else ""
    return (
        f"Under {protocol}, {_label(tables, best)} ({best['cell']}) has the lowest mean score of "
        f"all trained algorithms, {best['score']:.3g}{interval}, after {_updates(best)}."
    )


def _updates(row: Any) -> str:
    count = int(row["updates"])
    return f"{count} update{'s' * (count > 1)}"


def _runner_up(tables: Tables, protocol: str, best: Any, other: Any, confidence: float) -> str:
    """Say how far behind the next algorithm is, and whether that is certain."""
    lower, upper = _difference(tables, protocol, best["algorithm"], other["algorithm"])
    sentence = f" {_label(tables, other)} comes next with {other['score']:.3g}"
    if best["score"] >= 1 or not (isfinite(lower) and isfinite(upper)):
        return f"{sentence}."
    relation = "excludes" if upper < 0 or lower > 0 else "includes"
    return (
        f"{sentence}; the {confidence:.0%} interval of the difference, [{lower:.3g}, {upper:.3g}], "
        f"{relation} 0."
    )


def _difference(tables: Tables, protocol: str, a: str, b: str) -> tuple[float, float]:
    """Return the interval of the mean difference a - b of the scores of two selected cells."""
    rows = tables.rows("comparisons.csv", role="selected", protocol=protocol, region="all")
    for first, second, sign in ((a, b, 1), (b, a, -1)):
        pair = rows[(rows["algorithm_a"] == first) & (rows["algorithm_b"] == second)]
        if len(pair):
            lower = float(pair["difference_lower"].iloc[0])
            upper = float(pair["difference_upper"].iloc[0])
            return (lower, upper) if sign > 0 else (-upper, -lower)
    return float("nan"), float("nan")


def _yardsticks(tables: Tables, protocol: str) -> list[str]:
    """Give the scores of baselines and predictions, which take no updates here."""
    ranked = tables.rows("ranking.csv", protocol=protocol, role="selected").sort_values("score")
    rows = ranked[~ranked["algorithm"].isin(tables.every_algorithm)]
    if not len(rows):
        return []
    named = ", ".join(f"{_label(tables, row)} {row['score']:.3g}" for _, row in rows.iterrows())
    return [f"Predictors without updates score, under {protocol}: {named}."]


def _label(tables: Tables, row: pd.Series) -> str:
    return tables.styles[row["algorithm"]].line
