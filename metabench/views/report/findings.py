"""The findings of a study in at most three sentences, from its tables alone."""

from __future__ import annotations

from math import isfinite
from typing import Any

import pandas as pd

from metabench.views.drawing.curves import takes_no_steps
from metabench.views.drawing.reading import Tables

UNTRAINED = "random"
"""The algorithm whose initialization is not trained."""


def sentences(tables: Tables, protocols: list[str], confidence: float) -> list[str]:
    """Return who is ahead under the main protocol, who under the others, and what baselines reach.

    Args:
        tables: Tables of the study.
        protocols: The protocols to describe, the main one first.
        confidence: Confidence level of the intervals.
    """
    main, *others = protocols
    if len(others) > 1:
        found = [_ahead(tables, main, confidence), _elsewhere(tables, others)]
    else:
        found = [_ahead(tables, protocol, confidence) for protocol in protocols]
    found.append(_yardsticks(tables, main))
    return [sentence for sentence in found if sentence] or ["This study has nothing to compare."]


def _trained(tables: Tables, protocol: str) -> pd.DataFrame:
    """Return the rows of the trained algorithms' selected cells, the lowest score first."""
    ranked = tables.rows("ranking.csv", protocol=protocol, role="selected")
    known = [name for name in tables.every_algorithm if name != UNTRAINED]
    return ranked[ranked["algorithm"].isin(known)].sort_values(["score", "algorithm"])


def _ahead(tables: Tables, protocol: str, confidence: float) -> str:
    """Say who is ahead under a protocol, and of whom; nothing if nobody is trained."""
    trained = _trained(tables, protocol)
    if not len(trained):
        return ""
    best = trained.iloc[0]
    if best["score"] >= 1:
        return f"Under {protocol}, no trained algorithm is better than predicting zero."
    second = (
        _runner_up(tables, protocol, best, trained.iloc[1], confidence) if len(trained) > 1 else ""
    )
    cell = f"the cell of {_label(tables, best)} is {best['cell']}"
    return f"{_leader(tables, protocol, best)}{second}; {cell}."


def _elsewhere(tables: Tables, protocols: list[str]) -> str:
    """Name the trained algorithm with the lowest score under each of several protocols."""
    leaders = [
        f"{protocol} {_label(tables, trained.iloc[0])} {trained.iloc[0]['score']:.3g}"
        for protocol in protocols
        if len(trained := _trained(tables, protocol))
    ]
    return (
        f"The lowest mean scores under the other protocols: {', '.join(leaders)}."
        if leaders
        else ""
    )


def _leader(tables: Tables, protocol: str, best: Any) -> str:
    """Say whose selected cell has the lowest score."""
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
        f"Under {protocol}, {_label(tables, best)} has the lowest mean score of the trained cells "
        f"that validation selects, {best['score']:.3g}{interval}{_updates(tables, best)}"
    )


def _updates(tables: Tables, row: Any) -> str:
    """Say after how many updates a cell is measured; nothing if it takes no steps."""
    place = {key: row[key] for key in ("algorithm", "cell", "step")}
    known = tables.rows("adaptation.csv", region="all", **place)
    # A protocol of one update does not tell whether a method takes steps.
    if any(takes_no_steps(rows) for _, rows in known.groupby("protocol")):
        return ""
    count = int(row["updates"])
    return f", after {count} update{'s' * (count > 1)}"


def _runner_up(tables: Tables, protocol: str, best: Any, other: Any, confidence: float) -> str:
    """Say how far behind the next algorithm is, and whether that is certain."""
    lower, upper = _difference(tables, protocol, best["algorithm"], other["algorithm"])
    sentence = f"; {_label(tables, other)} comes next with {other['score']:.3g}"
    if not (isfinite(lower) and isfinite(upper)):
        return sentence
    relation = "excludes" if upper < 0 or lower > 0 else "includes"
    return (
        f"{sentence}, and the {confidence:.0%} interval of the difference, "
        f"[{lower:.3g}, {upper:.3g}], {relation} 0"
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


def _yardsticks(tables: Tables, protocol: str) -> str:
    """Give the scores of baselines and predictions, which take no updates here."""
    ranked = tables.rows("ranking.csv", protocol=protocol, role="selected").sort_values("score")
    rows = ranked[~ranked["algorithm"].isin(tables.every_algorithm)]
    if not len(rows):
        return ""
    # Names may contain commas.
    named = "; ".join(f"{_label(tables, row)}: {row['score']:.3g}" for _, row in rows.iterrows())
    return f"Predictors without updates have these scores under {protocol}: {named}."


def _label(tables: Tables, row: pd.Series) -> str:
    return tables.styles[row["algorithm"]].line
