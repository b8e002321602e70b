"""Predictions for the showcase wave before and after adaptation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from metabench.analysis.columns import NUMBER, Column, of_x
from metabench.analysis.measured import Study
from metabench.analysis.selection import pictured
from metabench.records.measured import CellRecord

NAME = "showcase.csv"
CAPTION = """
Predictions for the showcase wave before and after adaptation, for every seed of the published
cells. If an algorithm has several cells to select from and none is published, the selected cell of
every algorithm is shown instead. Protocols of a grid are left out.
"""
COLUMNS = {
    "truth": Column(NUMBER, "The showcase wave."),
    "before": Column(NUMBER, "Prediction of the initialization."),
    "after": Column(NUMBER, "Prediction after the protocol's last update."),
}

NAMING = ["algorithm", "cell", "role", "seed", "protocol"]
"""The first columns, also of a study without cells to show."""


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    found = [_rows(study, record, protocol) for protocol, record in pictured(study)]
    names = of_x(study.baselines["showcase/x"].shape[1])
    order = [*NAMING, *names, *COLUMNS]
    table = pd.concat(found) if found else pd.DataFrame(columns=order)
    keys = ["algorithm", "cell", "seed", "protocol", *names]
    return table[order].sort_values(keys, ignore_index=True)


def _rows(study: Study, record: CellRecord, protocol: str) -> pd.DataFrame:
    """Return the predictions of a cell's runs under one protocol."""
    x, truth = study.baselines["showcase/x"], study.baselines["showcase/truth"]
    predicted = record.evaluation[f"showcase/{protocol}"]  # (picture update, run, point)
    before, after = predicted[0], predicted[-1]
    runs = len(record.seeds)
    return pd.DataFrame(np.tile(x, (runs, 1)), columns=of_x(x.shape[1])).assign(
        seed=np.repeat(record.seeds, len(x)),
        protocol=protocol,
        truth=np.tile(truth[:, 0], runs),
        before=before.ravel(),
        after=after.ravel(),
        **record.head,
    )
