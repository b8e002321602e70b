"""Validation loss of each run in training."""

from __future__ import annotations

import pandas as pd

from metabench.analysis import curves
from metabench.analysis.columns import COUNT, Column
from metabench.analysis.measured import Study, joined

NAME = "history.csv"
CAPTION = "Validation loss of each run in training, with the cost up to then."
COLUMNS = {"meta_iteration": Column(COUNT, "Outer updates done.")}


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    return joined(curves.history(record) for record in study.cells)
