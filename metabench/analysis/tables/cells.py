"""The hyperparameters of each cell."""

from __future__ import annotations

import pandas as pd

from metabench.analysis.columns import Column
from metabench.analysis.measured import Study, settings

NAME = "cells.csv"
CAPTION = "Each cell with its hyperparameters."
COLUMNS: dict[str, Column] = {}


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    rows = [{**record.head, **settings(study, record)} for record in study.cells]
    return pd.DataFrame(rows).sort_values(["algorithm", "cell"], ignore_index=True)
