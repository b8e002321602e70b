"""Loss of each run at each measured update, over the test tasks."""

from __future__ import annotations

import pandas as pd

from metabench.analysis import curves
from metabench.analysis.columns import Column
from metabench.analysis.measured import Study, joined

NAME = "curves.parquet"
CAPTION = "Mean and median loss over the test tasks of each run at each measured update."
COLUMNS: dict[str, Column] = {}


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    found = (curves.curves(record, study.regions, study.protocols) for record in study.cells)
    return joined(found)
