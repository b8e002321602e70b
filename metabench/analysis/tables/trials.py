"""The gain from tuning: the score of the best of each number of candidates."""

from __future__ import annotations

import pandas as pd

from metabench.analysis.columns import COUNT, NUMBER, Column
from metabench.analysis.measured import Study
from metabench.analysis.selection import algorithms, candidates, selection_of, step_of

NAME = "trials.csv"
CAPTION = """
The gain from tuning: the test score of the candidate that validation selects from a number of
trials, averaged over which of them were tried. If it still falls at the largest number, more trials
would help.
"""
COLUMNS = {
    "trials": Column(COUNT, "Number of candidates tried."),
    "best_validation_score": Column(NUMBER, "Mean validation score of the best of them."),
    "test_score": Column(NUMBER, "Mean test score of that one."),
}

KEYS = ["algorithm", "protocol", "step"]


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    found = []
    for algorithm in algorithms(study):
        first, *_ = candidates(study, algorithm)
        for protocol in study.protocols:
            step = step_of(first, protocol)
            validation, test = study.once(selection_of, algorithm, protocol, step).after_trials()
            table = pd.DataFrame({"best_validation_score": validation, "test_score": test})
            place = dict(zip(KEYS, (algorithm, protocol, step), strict=True))
            found.append(table.assign(trials=range(1, 1 + len(table)), **place))
    return pd.concat(found)[[*KEYS, *COLUMNS]].sort_values([*KEYS, "trials"], ignore_index=True)
