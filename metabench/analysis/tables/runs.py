"""Every run with its status and its cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from metabench.analysis.columns import COUNT, TEXT, Column, with_whole_counts
from metabench.analysis.measured import Study, costs
from metabench.records.measured import CellRecord

NAME = "runs.csv"
CAPTION = "Every run with its status and its cost. A diverged run is a row like any other."
COLUMNS = {
    "status": Column(
        TEXT,
        "ok, or diverged: the initialization, or its loss before any adaptation, is not finite.",
    ),
    "diverged_at": Column(COUNT, "Meta-iteration after which theta was first not finite."),
}


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    rows = [row for record in study.cells for row in _rows(record)]
    table = with_whole_counts(pd.DataFrame(rows), COLUMNS)
    return table.sort_values(["algorithm", "cell", "seed"], ignore_index=True)


def _rows(record: CellRecord) -> Iterator[dict[str, Any]]:
    """Yield a row for each run of a cell."""
    for seed, at, diverged in zip(record.seeds, record.diverged_at, record.diverged, strict=True):
        yield {
            **record.head,
            "seed": int(seed),
            "status": "diverged" if diverged else "ok",
            "diverged_at": int(at) or None,
            **costs(record),
        }
