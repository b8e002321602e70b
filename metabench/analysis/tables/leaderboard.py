"""Final loss of every cell and baseline, beside what it cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis.columns import COUNT, Column, with_whole_counts
from metabench.analysis.measured import Study, costs, settings
from metabench.analysis.tables import adaptation, selection
from metabench.records.measured import CellRecord

NAME = "leaderboard.csv"
CAPTION = """
Final loss of every cell and baseline under each protocol and adaptation step, with intervals, costs
and counts of diverged runs. Rows with seeds = 0 are baselines without seeds: their interval is over
tasks alone.
"""
COLUMNS = {
    "runs_ok": Column(COUNT, "Runs that did not diverge in training."),
    "runs_diverged": Column(COUNT, "Runs that did."),
}

KEYS = ["algorithm", "cell", "role", "protocol", "step"]
MARKS = ["selected", "validation_loss", "frequency", "on_edge", "held_out_mean"]
"""Columns that it has from the table of selection."""


def build(study: Study) -> pd.DataFrame:
    """Return the table, best first."""
    found = final(study.table(adaptation.build))
    chosen = study.table(selection.build)
    about = pd.DataFrame([row for record in study.cells for row in _about(study, record)])
    table = found.merge(chosen[KEYS + MARKS], how="left").merge(about, how="left", on=KEYS)
    table["selected"] = table["selected"].fillna(False).astype(bool)
    table = with_whole_counts(table, COLUMNS)

    front = [*KEYS, "selected", "step_size"]
    rest = [column for column in table.columns if column not in front]
    order = ["protocol", "mean", "median", "algorithm", "cell", "step"]
    return table[front + rest].sort_values(order, ignore_index=True)


def final(adapted: pd.DataFrame) -> pd.DataFrame:
    """Return the statistics at each protocol's last update, over the whole grid."""
    last = adapted.groupby("protocol")["update"].transform("max")
    rows = adapted[(adapted["update"] == last) & (adapted["region"] == "all")]
    return rows.drop(columns=["region", "update"])


def _about(study: Study, record: CellRecord) -> Iterator[dict[str, Any]]:
    """Yield what there is to say of a cell beside its losses, under each protocol and step."""
    diverged = int(record.diverged.sum())
    for protocol in study.protocols:
        for step in record.steps(protocol):
            yield {
                **record.head,
                "protocol": protocol,
                "step": step,
                "step_size": float(np.median(record.step_size(protocol, step))),
                **settings(study, record),
                **costs(record),
                "runs_ok": len(record.seeds) - diverged,
                "runs_diverged": diverged,
            }
