"""The order of all contenders, and its uncertainty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis.columns import NUMBER, Column
from metabench.analysis.measured import Study
from metabench.analysis.statistics.ranking import ranked, ranks
from metabench.analysis.tables.comparisons import PICKS, Contender, contenders

NAME = "ranking.csv"
CAPTION = """
Contenders ranked by mean score, with an interval that contains 95 % of the ranks when seeds and
tasks are resampled; ties share their mean rank. The last columns are the ranks on the two halves of
the test bank, like those of two banks of half the size.
"""
COLUMNS = {
    "rank": Column(NUMBER, "Rank of the mean score; 1 is the best."),
    "rank_lower": Column(NUMBER, "Lower end of its interval under resampled seeds and tasks."),
    "rank_upper": Column(NUMBER, "Upper end of its interval."),
    "first": Column(NUMBER, "Share of resamples in which no other contender has a lower score."),
    "rank_of_half_1": Column(NUMBER, "Rank on the even-numbered tasks alone."),
    "rank_of_half_2": Column(NUMBER, "Rank on the odd-numbered tasks alone."),
}

ORDER = ["role", "protocol", "algorithm", "cell", "step", "updates", "score", *COLUMNS]


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    rows: list[dict[str, Any]] = []
    for role in PICKS:
        for protocol in study.single_protocols:
            sides = study.once(contenders, protocol, role)
            if sides:
                rows += _rows(study, sides, {"role": role, "protocol": protocol})
    table = pd.DataFrame(rows, columns=ORDER)
    return table.sort_values(["role", "protocol", "score", "algorithm"], ignore_index=True)


def _rows(study: Study, sides: list[Contender], place: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each contender of a role under a protocol."""
    on_grid = [side.scores[0] for side in sides]
    drawn = ranks(on_grid, study.draws)
    tail = (1 - study.config.statistics.confidence) / 2
    lower, upper = np.quantile(drawn, [tail, 1 - tail], axis=0, method="nearest")
    each = ranked([score.mean() for score in on_grid])
    halves = [ranked([score[:, half::2].mean() for score in on_grid]) for half in (0, 1)]
    for n, side in enumerate(sides):
        yield {
            **place,
            **dict(zip(("algorithm", "cell", "step", "updates"), side[:4], strict=True)),
            "score": float(on_grid[n].mean()),
            "rank": each[n],
            "rank_lower": lower[n],
            "rank_upper": upper[n],
            "first": float((drawn[:, n] == drawn.min(-1)).mean()),
            "rank_of_half_1": halves[0][n],
            "rank_of_half_2": halves[1][n],
        }
