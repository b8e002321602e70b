"""The finding of a study in a few sentences, from its tables alone."""

from __future__ import annotations

from typing import Any

import pandas as pd

from metabench.views.drawing.reading import Tables


def sentences(tables: Tables, protocol: str) -> list[str]:
    """Return what a study found under a protocol: who is ahead, how surely, and of what yardstick.

    Args:
        tables: Tables of the study.
        protocol: The protocol to speak of.
    """
    ranked = tables.rows("ranking.csv", protocol=protocol, role="selected").sort_values("score")
    trained = ranked[ranked["algorithm"].isin(tables.every_algorithm)]
    if not len(trained):
        return ["This study has nothing to compare."]
    best = trained.iloc[0]
    found = [_ahead(tables, protocol, best)]
    if len(trained) > 1:
        found.append(_next(tables, protocol, best, trained.iloc[1]))
    yardsticks = ranked[~ranked["algorithm"].isin(tables.every_algorithm)]
    if len(yardsticks):
        found.append(_yardsticks(tables, best, yardsticks))
    return found


def _ahead(tables: Tables, protocol: str, best: Any) -> str:
    """Say which algorithm has the least score."""
    rows = tables.rows(
        "leaderboard.csv",
        protocol=protocol,
        algorithm=best["algorithm"],
        cell=best["cell"],
        step=best["step"],
    )
    row = rows.iloc[0]
    interval = f"[{row['chosen_score_lower']:.3g}, {row['chosen_score_upper']:.3g}]"
    return (
        f"Under the protocol {protocol}, {_label(tables, best)} ({best['cell']}) has the least mean "
        f"score of all trained algorithms: {best['score']:.3g} {interval} after "
        f"{best['updates']} updates, where 0 is perfect and 1 no better than predicting zero."
    )


def _next(tables: Tables, protocol: str, best: Any, other: Any) -> str:
    """Say whether the next algorithm can be told apart from it."""
    lower, upper = _difference(tables, protocol, best["algorithm"], other["algorithm"])
    said = f"{_label(tables, other)} comes next with {other['score']:.3g}"
    interval = f"(95 % interval of the difference: [{lower:.3g}, {upper:.3g}])"
    if upper < 0:
        return f"{said}, and can be told apart from it {interval}."
    return f"{said}, and cannot be told apart from it {interval}."


def _difference(tables: Tables, protocol: str, a: str, b: str) -> tuple[float, float]:
    """Return the interval of the mean difference a - b of the scores of two selected cells."""
    rows = tables.rows("comparisons.csv", role="selected", protocol=protocol, region="all")
    for first, second, sign in ((a, b, 1), (b, a, -1)):
        pair = rows[(rows["algorithm_a"] == first) & (rows["algorithm_b"] == second)]
        if len(pair):
            ends = sign * pair.iloc[0][["difference_lower", "difference_upper"]].astype(float)
            return float(ends.min()), float(ends.max())
    return float("nan"), float("nan")


def _yardsticks(tables: Tables, best: Any, yardsticks: pd.DataFrame) -> str:
    """Say which predictors that take no gradient steps do better, and which do worse."""
    better = yardsticks[yardsticks["score"] < best["score"]]
    worse = yardsticks[yardsticks["score"] >= best["score"]]
    sides = []
    for rows, said in ((better, "do better"), (worse, "do worse")):
        if len(rows):
            named = [f"{_label(tables, row)} {row['score']:.3g}" for _, row in rows.iterrows()]
            sides.append(f"{said}: {', '.join(named)}")
    return f"Of the yardsticks that are not trained by gradients, these {'; these '.join(sides)}."


def _label(tables: Tables, row: Any) -> str:
    return tables.styles[row["algorithm"]].label.replace("\n", "")
