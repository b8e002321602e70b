"""The choice of a cell on the validation bank, and how far it can be trusted.

winner = argmin over cells of the median over seeds of the mean validation loss
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metabench.analysis.measured import Study
from metabench.analysis.statistics import Floats, Integers, with_inf_for_nan
from metabench.records.measured import CellRecord


def select(validation: ArrayLike, diverged: ArrayLike, meta_step_size: ArrayLike) -> int:
    """Return the index of the cell with the least median over seeds of its validation loss.

    A cell with a diverged run (or a loss that is not finite) ranks last; ties go to the smaller
    meta step.

    Args:
        validation: Mean validation losses, ``(cell, seed)``.
        diverged: Which runs diverged, ``(cell, seed)`` bool.
        meta_step_size: ``(cell,)``.
    """
    every_seed = np.arange(np.shape(validation)[1])[None]
    return int(_selected(validation, diverged, meta_step_size, every_seed)[0])


def leave_one_seed_out(
    validation: ArrayLike, diverged: ArrayLike, meta_step_size: ArrayLike
) -> Integers:
    """Return, for each seed, the cell that the other seeds select, ``(seed,)``.

    Its loss on this seed has no winner's curse. Args are those of `select`, with at least 2 seeds
    (ValueError).
    """
    seeds = np.shape(validation)[1]
    if seeds < 2:
        raise ValueError(f"leaving one seed out needs at least 2 seeds; got {seeds}")
    others = [np.delete(np.arange(seeds), left_out) for left_out in range(seeds)]
    return _selected(validation, diverged, meta_step_size, np.stack(others))


def selection_frequency(
    validation: ArrayLike, diverged: ArrayLike, meta_step_size: ArrayLike, seed_resamples: Integers
) -> Floats:
    """Return the share of resamples ``(resample, seed)`` that select each cell, ``(cell,)``.

    The other args are those of `select`.
    """
    winners = _selected(validation, diverged, meta_step_size, seed_resamples)
    return np.bincount(winners, minlength=np.size(meta_step_size)) / winners.size


def _selected(
    validation: ArrayLike, diverged: ArrayLike, meta_step_size: ArrayLike, seeds: Integers
) -> Integers:
    """Return the cell that each row of seeds ``(choice, n)`` selects, ``(choice,)``."""
    losses = with_inf_for_nan(validation)
    failed = np.asarray(diverged, dtype=bool) | ~np.isfinite(losses)
    medians = np.median(losses[:, seeds], axis=-1)  # (cell, choice)
    steps = np.broadcast_to(np.asarray(meta_step_size, dtype=np.float64)[:, None], medians.shape)
    return np.lexsort((steps, medians, failed[:, seeds].any(-1)), axis=0)[0]


class Selection(NamedTuple):
    """What the validation bank says of one algorithm's cells under a protocol and step.

    Args:
        protocol: The protocol.
        step: The kind of step size of adaptation.
        records: The candidates.
        validation: Their mean validation losses, ``(cell, seed)``.
        diverged: Which of their runs diverged, ``(cell, seed)``.
        meta_step_size: ``(cell,)``; not a number for those that have none.
    """

    protocol: str
    step: str
    records: list[CellRecord]
    validation: NDArray[np.float64]
    diverged: NDArray[np.bool_]
    meta_step_size: NDArray[np.float64]

    @property
    def winner(self) -> int:
        """The selected cell's index."""
        return select(self.validation, self.diverged, self.meta_step_size)

    @property
    def loss(self) -> float:
        """The selected cell's validation loss."""
        return float(np.median(self.validation[self.winner]))

    def frequency(self, seed_resamples: Integers) -> Floats:
        """Return the share of resamples ``(resample, seed)`` that select each cell, ``(cell,)``."""
        return selection_frequency(
            self.validation, self.diverged, self.meta_step_size, seed_resamples
        )

    @property
    def held_out_mean(self) -> float:
        """Mean test loss of each seed under the cell that the other seeds select.

        Not a number if there is only one seed.
        """
        if self.validation.shape[1] < 2:
            return np.nan
        chosen = leave_one_seed_out(self.validation, self.diverged, self.meta_step_size)
        means = []
        for seed, cell in enumerate(chosen):
            losses = self.records[cell].losses(self.protocol, self.step)
            means.append(losses[0, -1, seed].mean())  # whole grid, last update
        return float(np.mean(means))


def candidates(study: Study, algorithm: str) -> list[CellRecord]:
    """Return the cells that selection chooses from: published and grid."""
    return [
        record
        for record in study.cells
        if record.cell.algorithm == algorithm and record.cell.role in ("published", "grid")
    ]


def algorithms(study: Study) -> list[str]:
    """Return the algorithms that have cells to choose from."""
    names = {record.cell.algorithm for record in study.cells}
    return sorted(name for name in names if candidates(study, name))


def selection_of(study: Study, algorithm: str, protocol: str, step: str) -> Selection:
    """Collect the validation losses that choose an algorithm's cell."""
    records = candidates(study, algorithm)
    sizes = [getattr(record.cell.hyperparameters, "meta_step_size", 0.0) for record in records]
    return Selection(
        protocol,
        step,
        records,
        validation=np.stack([record.validation(protocol, step) for record in records]),
        diverged=np.stack([record.diverged for record in records]),
        meta_step_size=np.array(sizes, dtype=np.float64),
    )
