"""Performance profiles: how many adaptations end at or below each score."""

from __future__ import annotations

import numpy as np
import pandas as pd

from metabench.analysis.columns import NUMBER, Column
from metabench.analysis.measured import Study
from metabench.analysis.tables.comparisons import PICKS, contenders

NAME = "profiles.csv"
CAPTION = """
Performance profiles: the share of adaptations (every seed on every test task) whose score is at or
below each level, for the contenders of the comparisons.
"""
COLUMNS = {
    "level": Column(NUMBER, "The score."),
    "share": Column(
        NUMBER,
        "Share of adaptations whose score is at or below it; at level 1, share that did not fail.",
    ),
}

LEVELS = np.geomspace(1e-6, 1, 31)
"""The scores of the profile; at 1, all are below or failed."""

KEYS = ["role", "protocol", "algorithm", "cell", "step"]


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    found = [pd.DataFrame(columns=[*KEYS, *COLUMNS])]
    for role in PICKS:
        for protocol in study.single_protocols:
            for side in study.once(contenders, protocol, role):
                place = dict(zip(KEYS, (role, protocol, *side[:3]), strict=True))
                values = np.sort(side.scores[0], axis=None)
                below = np.searchsorted(values, LEVELS, side="right") / values.size
                below[-1] = (values < 1).mean()  # those at 1 failed
                found.append(pd.DataFrame({"level": LEVELS, "share": below}).assign(**place))
    table = pd.concat(found[1:] or found)[[*KEYS, *COLUMNS]]
    return table.sort_values([*KEYS, "level"], ignore_index=True)
