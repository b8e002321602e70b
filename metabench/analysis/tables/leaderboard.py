"""Score, loss and cost of every cell and baseline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis.columns import (
    CHOSEN,
    COUNT,
    STATISTICS,
    Column,
    with_whole_counts,
)
from metabench.analysis.measured import Study, costs, settings
from metabench.analysis.tables import adaptation, selection
from metabench.records.measured import CellRecord

NAME = "leaderboard.csv"
CAPTION = """
Score and loss of every cell and baseline under each protocol and adaptation step, after the
protocol's last update and after the number of updates that validation selects, with intervals,
costs and counts of diverged runs. Rows with seeds = 0 are baselines without seeds: their interval
is over tasks alone.
"""
COLUMNS = {
    "runs_ok": Column(COUNT, "Runs that did not diverge in training."),
    "runs_diverged": Column(COUNT, "Runs that diverged in training."),
} | {
    column: Column(STATISTICS[name].type, f"`{name}` after `updates` updates.")
    for name, column in CHOSEN.items()
}

KEYS = ["algorithm", "cell", "role", "protocol", "step"]
MARKS = ["selected", "validation_score", "updates", "frequency", "on_edge", "held_out_score"]
"""Columns taken from the selection table."""


def build(study: Study) -> pd.DataFrame:
    """Return the table, best first."""
    found = final(study.once(adaptation.build))
    chosen = study.once(selection.build)
    descriptions = pd.DataFrame(
        [row for record in study.cells for row in _descriptions(study, record)]
    )
    table = found.merge(chosen[KEYS + MARKS], how="left").merge(descriptions, how="left", on=KEYS)
    table["selected"] = table["selected"].fillna(False).astype(bool)
    table = _with_chosen(table, study.once(adaptation.build))
    table = with_whole_counts(table, COLUMNS)

    leading = [*KEYS, "selected", "step_size", "updates", *CHOSEN.values()]
    rest = [column for column in table.columns if column not in leading]
    order = ["protocol", "chosen_score", "score", "median", "algorithm", "cell", "step"]
    return table[leading + rest].sort_values(order, ignore_index=True)


def _with_chosen(table: pd.DataFrame, adapted: pd.DataFrame) -> pd.DataFrame:
    """Add the statistics of each cell after the number of updates that validation selects.

    Cells that are not candidates, and baselines, have those of the last update.
    """
    last = table["protocol"].map(adapted.groupby("protocol")["update"].max())
    update = table["updates"].fillna(last).astype(int)
    rows = adapted[adapted["region"] == "all"].rename(columns=CHOSEN)
    found = table.assign(update=update).merge(
        rows[[*KEYS, "update", *CHOSEN.values()]], how="left", on=[*KEYS, "update"]
    )
    return found.drop(columns="update")


def final(adapted: pd.DataFrame) -> pd.DataFrame:
    """Return the statistics at each protocol's last update, over the whole grid."""
    last = adapted.groupby("protocol")["update"].transform("max")
    rows = adapted[(adapted["update"] == last) & (adapted["region"] == "all")]
    return rows.drop(columns=["region", "update"])


def _descriptions(study: Study, record: CellRecord) -> Iterator[dict[str, Any]]:
    """Yield a cell's columns other than its losses, for each protocol and step rule."""
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
