"""Validation loss of each step size that a run may choose for its adaptation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from metabench.analysis.columns import FLAG, Column
from metabench.analysis.measured import Study, name
from metabench.records.measured import CellRecord

NAME = "tuning.csv"
CAPTION = """
Validation loss of each step size that a run without its own step size could choose for its
adaptation.
"""
COLUMNS = {"chosen": Column(FLAG, "Whether this run adapts with this step size.")}

KEYS = ["algorithm", "cell", "seed", "protocol", "step_size"]
ORDER = [*KEYS, "validation_loss", "chosen"]


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    sizes = sorted(study.config.evaluation.tuning_step_sizes)
    found = []
    for record in study.cells:
        for protocol in study.protocols:
            if f"tuning/{protocol}" in record.evaluation:
                found.append(_rows(record, protocol, sizes))
    table = pd.concat(found) if found else pd.DataFrame(columns=ORDER)
    return table.sort_values(KEYS, ignore_index=True)


def _rows(record: CellRecord, protocol: str, sizes: list[float]) -> pd.DataFrame:
    """Return the losses of a cell's runs at each step size under one protocol."""
    losses = record.evaluation[f"tuning/{protocol}"]  # (size, run)
    losses = np.nan_to_num(losses, nan=np.inf, posinf=np.inf)
    index = pd.MultiIndex.from_product([sizes, record.seeds], names=["step_size", "seed"])
    table = pd.DataFrame({"validation_loss": losses.ravel()}, index).reset_index()
    own = np.tile(record.step_size(protocol, "tuned"), len(sizes))
    chosen = table["step_size"].to_numpy() == own
    return table.assign(chosen=chosen, protocol=protocol, **name(record))[ORDER]
