"""Loss of each run on each test task."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis.columns import Column
from metabench.analysis.measured import Study, name
from metabench.analysis.selection import step_of
from metabench.records.measured import CellRecord

NAME = "tasks.parquet"
CAPTION = """
Loss of each run on each test task at the last update, at the step size by which its cell is judged:
its own or, if it has none, the tuned one. Seed -1 means a baseline or predictions without seeds.
"""
COLUMNS: dict[str, Column] = {}

ORDER = ["algorithm", "cell", "seed", "protocol", "step", "region", "task", "loss"]
REPEATED = ("algorithm", "cell", "protocol", "step", "region")
"""Columns with few distinct words in many rows, stored compactly as categories."""

NO_SEED = -1


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    found = []
    for record in study.cells:
        found += [_of_cell(record, *regions) for regions in study.regions.items()]
    for protocol, regions in study.regions.items():
        for seeds, entrants in groupby(study.entrants(protocol), lambda entrant: entrant.seeds):
            heads, _, losses = zip(*entrants, strict=True)
            names = [head["algorithm"] for head in heads]
            place = {"cell": "-", "protocol": protocol, "step": "none"}
            found.append(_rows(np.stack(losses), names, regions, seeds or [NO_SEED], place))
    order = ["algorithm", "cell", "seed", "protocol", "step", "region", "task"]
    table = pd.concat(found).sort_values(order, ignore_index=True)
    return table.astype(dict.fromkeys(REPEATED, "category"))


def _of_cell(record: CellRecord, protocol: str, regions: Sequence[str]) -> pd.DataFrame:
    """Return the losses of a cell's runs under one protocol."""
    step, names = step_of(record, protocol), name(record)
    place = {"cell": names["cell"], "protocol": protocol, "step": step}
    losses = record.losses(protocol, step)[None, :, -1]
    return _rows(losses, [names["algorithm"]], regions, list(record.seeds), place)


def _rows(
    losses: NDArray[Any],
    names: Sequence[str],
    regions: Sequence[str],
    seeds: list[int],
    place: dict[str, str],
) -> pd.DataFrame:
    """Return losses ``(algorithm, region, seed, task)`` as rows; `place` has the other columns."""
    index = pd.MultiIndex.from_product(
        [names, regions, seeds, range(losses.shape[-1])],
        names=["algorithm", "region", "seed", "task"],
    )
    # A loss needs no more digits than the engine computes with.
    table = pd.DataFrame({"loss": losses.ravel().astype(np.float32)}, index)
    table = table.reset_index().assign(**place).astype({"seed": "int16", "task": "int32"})
    return table[ORDER]
