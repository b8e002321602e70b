"""Predictive distributions of labels of the showcase wave."""

from __future__ import annotations

import numpy as np
import pandas as pd

from metabench.analysis.columns import NUMBER, Column, of_x
from metabench.analysis.measured import Study
from metabench.analysis.selection import pictured
from metabench.records.measured import CellRecord
from metabench.study.cell_groups import predict_variances
from metabench.study.config import StudyConfig

NAME = "bands.csv"
CAPTION = """
Distributions of labels of the showcase wave after a protocol's last update, for the first seed of
the cells in showcase.csv. Algorithms that predict no variance have no rows.
"""
COLUMNS = {
    "deviation": Column(
        NUMBER, "Standard deviation of the distribution, noise of the label included."
    ),
}

NAMING = ["algorithm", "cell", "role", "seed", "protocol"]


def needed(config: StudyConfig) -> bool:
    """Return whether a study has this table: cells predict the variance of noisy labels."""
    return predict_variances(config)


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    names = of_x(study.baselines["showcase/x"].shape[1])
    order = [*NAMING, *names, "prediction", *COLUMNS]
    found = [
        _rows(study, record, protocol)
        for protocol, record in pictured(study)
        if f"deviation/{protocol}" in record.evaluation
    ]
    table = pd.concat(found) if found else pd.DataFrame(columns=order)
    keys = ["algorithm", "cell", "seed", "protocol", *names]
    return table[order].sort_values(keys, ignore_index=True)


def _rows(study: Study, record: CellRecord, protocol: str) -> pd.DataFrame:
    """Return the distributions of a cell's first run under one protocol."""
    x, first = study.baselines["showcase/x"], 0
    return pd.DataFrame(x, columns=of_x(x.shape[1])).assign(
        seed=record.seeds[first],
        protocol=protocol,
        prediction=record.evaluation[f"showcase/{protocol}"][-1, first].astype(np.float64),
        deviation=record.evaluation[f"deviation/{protocol}"][first].astype(np.float64),
        **record.head,
    )
