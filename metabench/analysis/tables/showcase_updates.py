"""Predictions for the showcase wave along the updates."""

from __future__ import annotations

import pandas as pd

from metabench.analysis.columns import Column
from metabench.analysis.measured import Study
from metabench.analysis.selection import pictured
from metabench.learning.settings import doubling
from metabench.records.measured import CellRecord
from metabench.study.config import StudyConfig

NAME = "showcase_updates.csv"
CAPTION = """
Predictions for the showcase wave along the updates, by the first seed of the cells of showcase.csv:
after no update, after 1, 2, 4, ..., and after the last. Only where x is one number.
"""
COLUMNS: dict[str, Column] = {}

ORDER = ["algorithm", "cell", "role", "protocol", "update", "x", "prediction"]


def needed(config: StudyConfig) -> bool:
    """Return whether a study has this table: its predictions are curves."""
    return config.tasks.features == 1


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    found = [_rows(study, record, protocol) for protocol, record in pictured(study)]
    table = pd.concat(found) if found else pd.DataFrame(columns=ORDER)
    return table.sort_values(ORDER[:-1], ignore_index=True)


def _rows(study: Study, record: CellRecord, protocol: str) -> pd.DataFrame:
    """Return the predictions of a cell's first run under one protocol."""
    x = study.baselines["showcase/x"][:, 0]
    updates = doubling(study.protocols[protocol].updates)
    index = pd.MultiIndex.from_product([updates, x], names=["update", "x"])
    predicted = record.evaluation[f"showcase/{protocol}"][:, 0]  # (picture update, point)
    rows = pd.DataFrame({"prediction": predicted.ravel()}, index).reset_index()
    return rows.assign(protocol=protocol, **record.head)[ORDER]
