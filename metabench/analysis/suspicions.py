"""Suspicious results in a finished study: cells that are equal, and runs that never moved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metabench.records.measured import CellRecord


def warnings(records: Sequence[CellRecord]) -> list[str]:
    """Return a line for each cell that never moved, and for each group of equal cells.

    Cells that do not train are left out: they equal the initial state of others.
    """
    trained = [record for record in records if record.cell.meta_iterations]
    return [f"warning: {line}" for line in (*_never_moved(trained), *_equal(trained))]


def _never_moved(records: Iterable[CellRecord]) -> Iterator[str]:
    """Yield a line for each cell with runs whose validation loss never changed."""
    for record in records:
        losses = record.validation_loss  # (evaluation, run)
        still = np.isfinite(losses).all(0) & (losses == losses[0]).all(0)
        if still.any():
            yield (
                f"{record.cell.title}: {still.sum()} of {still.size} runs never moved "
                f"(their validation loss is constant over {record.cell.meta_iterations} "
                "meta-iterations)"
            )


def _equal(records: Iterable[CellRecord]) -> Iterator[str]:
    """Yield a line for each group of cells that learned or predict the same."""
    learned, predict = defaultdict(list), defaultdict(list)
    for record in records:
        title = record.cell.title
        if np.isfinite(record.theta).any():  # runs that diverged are all equal
            learned[_digest([record.theta])].append(title)
        losses = [record.evaluation[name] for name in sorted(record.evaluation) if _is_test(name)]
        if any(np.isfinite(array).any() for array in losses):
            predict[_digest(losses)].append(title)
    equal = [titles for titles in learned.values() if len(titles) > 1]
    for titles in equal:
        yield f"{' and '.join(titles)} learned the same numbers"
    for titles in predict.values():
        if len(titles) > 1 and titles not in equal:
            suspicion = "have the same losses, though they learned different numbers"
            yield f"{' and '.join(titles)} {suspicion}"


def _is_test(name: str) -> bool:
    """Return whether an array of an evaluation contains test losses."""
    return name.startswith("test/")


def _digest(arrays: Iterable[NDArray[Any]]) -> str:
    found = sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
