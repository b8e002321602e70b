"""Predictions for the showcase wave before and after adaptation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from metabench.analysis.columns import NUMBER, Column
from metabench.analysis.measured import Study
from metabench.records.measured import CellRecord

NAME = "showcase.csv"
CAPTION = """
Predictions for the showcase wave before and after adaptation, for every seed of the published
cells.
"""
COLUMNS = {
    "truth": Column(NUMBER, "The showcase wave."),
    "before": Column(NUMBER, "Prediction of the initialization."),
    "after": Column(NUMBER, "Prediction after the protocol's last update."),
}

ORDER = ["algorithm", "cell", "role", "seed", "protocol", "x", "truth", "before", "after"]
"""All columns, which a study without published cells has too."""


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    published = [record for record in study.cells if record.cell.role == "published"]
    found = [_rows(study, record, protocol) for record in published for protocol in study.protocols]
    table = pd.concat(found) if found else pd.DataFrame(columns=ORDER)
    keys = ["algorithm", "cell", "seed", "protocol", "x"]
    return table[ORDER].sort_values(keys, ignore_index=True)


def _rows(study: Study, record: CellRecord, protocol: str) -> pd.DataFrame:
    """Return the predictions of a cell's runs under one protocol."""
    x, truth = study.baselines["showcase/x"][:, 0], study.baselines["showcase/truth"][:, 0]
    before, after = record.evaluation[f"showcase/{protocol}"]  # each (run, point)
    index = pd.MultiIndex.from_product([record.seeds, x], names=["seed", "x"])
    predicted = pd.DataFrame({"before": before.ravel(), "after": after.ravel()}, index)
    return predicted.reset_index().assign(
        truth=np.tile(truth, len(record.seeds)), protocol=protocol, **record.head
    )
