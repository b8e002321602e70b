"""Where each method breaks: the value of an axis at which half of its advantage is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis.columns import NUMBER, Column, judged
from metabench.analysis.measured import Study
from metabench.analysis.statistics.losses import Floats
from metabench.analysis.tables import adaptation, axes, leaderboard

NAME = "breaking_points.csv"
CAPTION = """
Where each method breaks, for each group of protocols that varies one number or one interval. Its
advantage over predicting zero is 1 - score after the last update; a breaking point is the value
beyond the best one at which half of the best advantage is lost, interpolated between two values of
the axis (axes.csv has the number of an interval). Its interval ends where the ends of the score's
interval reach that level, or at the best value if one is beyond it there. It counts how uncertain
scores are, and neither how uncertain the level is nor how they run between two values. Each is
empty where its curve does not reach the level, and all are where the best advantage is less than a
tenth.
"""
COLUMNS = {
    "best_value": Column(NUMBER, "The value of the axis with the lowest score."),
    "best_score": Column(NUMBER, "That score."),
    "breaks_below": Column(NUMBER, "Breaking point below the best value."),
    "breaks_below_lower": Column(NUMBER, "Lower end of its interval."),
    "breaks_below_upper": Column(NUMBER, "Upper end."),
    "breaks_above": Column(NUMBER, "Breaking point above the best value."),
    "breaks_above_lower": Column(NUMBER, "Lower end of its interval."),
    "breaks_above_upper": Column(NUMBER, "Upper end."),
}

LEAST = 0.1
"""The smallest advantage whose loss is meaningful."""

ENDS = {
    side: (f"breaks_{side}", f"breaks_{side}_lower", f"breaks_{side}_upper")
    for side in ("below", "above")
}
"""The columns of a breaking point and its interval on either side of the best value."""

KEYS = ["group", "axis", "algorithm", "cell", "role"]


def build(study: Study) -> pd.DataFrame:
    """Return the table, in the order of the study's groups."""
    final = judged(leaderboard.final(study.once(adaptation.build)))
    rows: list[dict[str, Any]] = []
    for group, places in study.once(axes.build).groupby("group", sort=False):
        if places["axis"].nunique() == 1 and places["number"].notna().all():
            rows += _of_group(str(group), final.merge(places, on="protocol"))
    return pd.DataFrame(rows, columns=[*KEYS, *COLUMNS])


def _of_group(group: str, table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield a row for each method that has a score at every value of a group's axis."""
    count = table["number"].nunique()
    for (algorithm, cell, role), rows in table.groupby(["algorithm", "cell", "role"]):
        rows = rows.sort_values("number").drop_duplicates("number")
        if len(rows) == count:
            names = (group, rows["axis"].iloc[0], algorithm, cell, role)
            logarithmic = bool((rows["scale"] == "log").all())
            curves = [rows[name].to_numpy() for name in ("score", "score_lower", "score_upper")]
            found = breaks(rows["number"].to_numpy(), curves, logarithmic)
            yield {**dict(zip(KEYS, names, strict=True)), **found}


def breaks(
    numbers: Floats, curves: Sequence[Floats], logarithmic: bool = False
) -> dict[str, float]:
    """Return where half of the advantage is lost on either side of the best value.

    Args:
        numbers: Values of an axis, ascending.
        curves: The score at each, then the lower and the upper end of its interval.
        logarithmic: Whether to interpolate between logarithms of the values.

    Example:
        >>> scores = np.array([0.9, 0.1, 0.2, 0.8])
        >>> found = breaks(np.arange(1, 5), [scores, scores - 0.05, scores + 0.05])
        >>> [round(found[name], 2) for name in ENDS["above"]]
        [3.58, 3.5, 3.67]
    """
    score, lower, upper = curves
    at = np.log(numbers) if logarithmic else np.asarray(numbers, float)
    best = int(np.argmin(score))
    level = 1 - (1 - score[best]) / 2
    result = {"best_value": float(numbers[best]), "best_score": float(score[best])}
    result |= dict.fromkeys([*ENDS["below"], *ENDS["above"]], np.nan)
    if 1 - score[best] < LEAST:
        return result
    # On its way from the best value, the upper end of the score reaches the level first.
    below, above = range(best, -1, -1), range(best, len(at))
    for side, way, ordered in (
        ("below", below, (score, lower, upper)),
        ("above", above, (score, upper, lower)),
    ):
        for name, curve in zip(ENDS[side], ordered, strict=True):
            value = _reached(level, at, curve, way)
            result[name] = float(np.exp(value) if logarithmic else value)
    return result


def _reached(level: float, at: Floats, curve: Floats, way: range) -> float:
    """Return where a curve first exceeds a level on a way through the places, or nan."""
    if curve[way[0]] > level:
        return float(at[way[0]])
    for here, there in pairwise(way):
        if curve[there] > level:
            share = (level - curve[here]) / (curve[there] - curve[here])
            return float(at[here] + share * (at[there] - at[here]))
    return np.nan
