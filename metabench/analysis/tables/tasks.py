"""Loss of each run on each test task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis.columns import Column
from metabench.analysis.measured import Study, name
from metabench.analysis.selection import step_of

NAME = "tasks.parquet"
CAPTION = """
Loss of each run on each test task at the last update, at the step size by which its cell is judged:
its own or, if it has none, the tuned one. Seed -1 means a baseline or predictions without seeds.
"""
COLUMNS: dict[str, Column] = {}

KEYS = ["algorithm", "cell", "seed", "protocol", "step", "region", "task"]
"""The columns that name a row, in the order by which rows are sorted."""

NO_SEED = -1


class Block(NamedTuple):
    """Losses of one algorithm, cell, protocol and step.

    Args:
        names: These four, by column.
        regions: Its regions.
        seeds: Its seeds.
        losses: ``(region, seed, task)``.
    """

    names: dict[str, str]
    regions: Sequence[str]
    seeds: Sequence[int]
    losses: NDArray[Any]

    def columns(self, codes: Mapping[str, Mapping[str, int]]) -> dict[str, NDArray[Any]]:
        """Return the columns of its rows; `codes` are the numbers of words, by column."""
        region = np.array([codes["region"][word] for word in self.regions], np.int16)
        found: dict[str, Any] = {
            column: np.int16(codes[column][word]) for column, word in self.names.items()
        }
        found |= {
            "region": region[:, None, None],
            "seed": np.array(self.seeds, np.int16)[:, None],
            "task": np.arange(self.losses.shape[-1], dtype=np.int32),
            # A loss needs no more digits than the engine computes with.
            "loss": self.losses.astype(np.float32),
        }
        return {name: np.broadcast_to(v, self.losses.shape).ravel() for name, v in found.items()}


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    blocks = [*_of_cells(study), *_of_entrants(study)]
    # Few distinct words are in millions of rows: they are numbers until the end.
    words = {
        column: sorted({block.names[column] for block in blocks}) for column in blocks[0].names
    }
    words["region"] = sorted({region for block in blocks for region in block.regions})
    codes = {column: {word: n for n, word in enumerate(found)} for column, found in words.items()}
    parts = [block.columns(codes) for block in blocks]
    table = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
    order = np.argsort(_place([table[column] for column in KEYS]))
    found = {column: table[column][order] for column in [*KEYS, "loss"]}
    for column, names in words.items():
        found[column] = pd.Categorical.from_codes(found[column], names)
    return pd.DataFrame(found)


def _place(keys: Sequence[NDArray[np.integer]]) -> NDArray[np.int64]:
    """Return one number for each row, in the order of its keys."""
    numbers = [key.astype(np.int64) - key.min() for key in keys]
    return np.ravel_multi_index(numbers, [number.max() + 1 for number in numbers])


def _of_cells(study: Study) -> Iterator[Block]:
    """Yield the losses of each cell's runs under each protocol."""
    for record in study.cells:
        for protocol, regions in study.regions.items():
            step = step_of(record, protocol)
            names = {**name(record), "protocol": protocol, "step": step}
            losses = record.losses(protocol, step)[:, -1]
            yield Block(names, regions, record.seeds.tolist(), losses)


def _of_entrants(study: Study) -> Iterator[Block]:
    """Yield the losses of what takes no updates under each protocol."""
    for protocol, regions in study.regions.items():
        for head, seeds, losses in study.entrants(protocol):
            names = {key: word for key, word in head.items() if key != "role"}
            yield Block(names, regions, seeds or [NO_SEED], losses)
