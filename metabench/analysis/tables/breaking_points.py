"""Where each method breaks: the value of an axis at which half of its advantage is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis.columns import NUMBER, Column, judged
from metabench.analysis.measured import Study
from metabench.analysis.tables import adaptation, axes, leaderboard

NAME = "breaking_points.csv"
CAPTION = """
Where each method breaks, for each group of protocols that varies one number or one interval. Its
advantage over predicting zero is 1 - score after the last update; a breaking point is the value
beyond the best one at which half of the best advantage is lost, interpolated between two values of
the axis (axes.csv has the number of an interval). Empty: it is not lost on that side, or the best
advantage is less than a tenth.
"""
COLUMNS = {
    "best_value": Column(NUMBER, "The value of the axis with the lowest score."),
    "best_score": Column(NUMBER, "That score."),
    "breaks_below": Column(NUMBER, "Breaking point below the best value."),
    "breaks_above": Column(NUMBER, "Breaking point above it."),
}

LEAST = 0.1
"""The smallest advantage whose loss is meaningful."""

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
            numbers, found = rows["number"].to_numpy(), rows["score"].to_numpy()
            yield {**dict(zip(KEYS, names, strict=True)), **breaks(numbers, found, logarithmic)}


def breaks(
    numbers: Sequence[float], found: Sequence[float], logarithmic: bool = False
) -> dict[str, float]:
    """Return where half of the advantage is lost on either side of the best value.

    Args:
        numbers: Values of an axis, ascending.
        found: The score at each.
        logarithmic: Whether to interpolate between logarithms of the values.

    Example:
        >>> round(breaks([1, 2, 3, 4], [0.9, 0.1, 0.2, 0.8])["breaks_above"], 4)
        3.5833
    """
    at = np.log(numbers) if logarithmic else np.asarray(numbers, float)
    best = int(np.argmin(found))
    level = 1 - (1 - found[best]) / 2
    ends = {"breaks_below": range(best, -1, -1), "breaks_above": range(best, len(at))}
    result = {"best_value": float(numbers[best]), "best_score": float(found[best])}
    for name, way in ends.items():
        result[name] = np.nan
        for here, there in pairwise(way):
            if 1 - found[best] >= LEAST and found[there] > level:
                share = (level - found[here]) / (found[there] - found[here])
                value = at[here] + share * (at[there] - at[here])
                result[name] = float(np.exp(value) if logarithmic else value)
                break
    return result
