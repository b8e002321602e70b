"""The choice of a cell on the validation bank, and how far it can be trusted.

winner = argmin over cells of the mean over seeds and tasks of the validation score after the number
of updates at which it is least
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metabench.analysis.measured import Study
from metabench.analysis.statistics import Floats, Integers
from metabench.records.measured import CellRecord


def select(validation: ArrayLike, meta_step_size: ArrayLike) -> int:
    """Return the index of the cell with the least mean over seeds of its validation score.

    A run that diverged has the score 1. Ties go to the smaller meta step.

    Args:
        validation: Mean validation scores, ``(cell, seed)``.
        meta_step_size: ``(cell,)``.
    """
    every_seed = np.arange(np.shape(validation)[1])[None]
    return int(_selected(validation, meta_step_size, every_seed)[0])


def leave_one_seed_out(validation: ArrayLike, meta_step_size: ArrayLike) -> Integers:
    """Return, for each seed, the cell that the other seeds select, ``(seed,)``.

    Its score on this seed has no winner's curse. Args are those of `select`, with at least 2 seeds
    (ValueError).
    """
    seeds = np.shape(validation)[1]
    if seeds < 2:
        raise ValueError(f"leaving one seed out needs at least 2 seeds; got {seeds}")
    others = [np.delete(np.arange(seeds), left_out) for left_out in range(seeds)]
    return _selected(validation, meta_step_size, np.stack(others))


def selection_frequency(
    validation: ArrayLike, meta_step_size: ArrayLike, seed_resamples: Integers
) -> Floats:
    """Return the share of resamples ``(resample, seed)`` that select each cell, ``(cell,)``.

    The other args are those of `select`.
    """
    winners = _selected(validation, meta_step_size, seed_resamples)
    return np.bincount(winners, minlength=np.size(meta_step_size)) / winners.size


def _selected(validation: ArrayLike, meta_step_size: ArrayLike, seeds: Integers) -> Integers:
    """Return the cell that each row of seeds ``(choice, n)`` selects, ``(choice,)``."""
    means = np.asarray(validation, dtype=np.float64)[:, seeds].mean(-1)  # (cell, choice)
    steps = np.broadcast_to(np.asarray(meta_step_size, dtype=np.float64)[:, None], means.shape)
    return np.lexsort((steps, means), axis=0)[0]


class Selection(NamedTuple):
    """What the validation bank says of one algorithm's cells under a protocol and step.

    Args:
        protocol: The protocol.
        step: The kind of step size of adaptation.
        records: The candidates.
        updates: How many updates each takes, ``(cell,)``.
        validation: Their mean validation scores after these, ``(cell, seed)``.
        test: Their mean test scores after these, ``(cell, seed)``.
        meta_step_size: ``(cell,)``; 0 for those that have none.
    """

    protocol: str
    step: str
    records: list[CellRecord]
    updates: list[int]
    validation: NDArray[np.float64]
    test: NDArray[np.float64]
    meta_step_size: NDArray[np.float64]

    @property
    def winner(self) -> int:
        """The selected cell's index."""
        return select(self.validation, self.meta_step_size)

    @property
    def score(self) -> float:
        """The selected cell's validation score."""
        return float(self.validation[self.winner].mean())

    def frequency(self, seed_resamples: Integers) -> Floats:
        """Return the share of resamples ``(resample, seed)`` that select each cell, ``(cell,)``."""
        return selection_frequency(self.validation, self.meta_step_size, seed_resamples)

    @property
    def held_out_score(self) -> float:
        """Mean test score of each seed under the cell that the other seeds select.

        Not a number if there is only one seed.
        """
        seeds = self.validation.shape[1]
        if seeds < 2:
            return np.nan
        chosen = leave_one_seed_out(self.validation, self.meta_step_size)
        return float(self.test[chosen, range(seeds)].mean())

    def after_trials(self) -> tuple[Floats, Floats]:
        """Return what so many trials give, 1, 2, ... of the candidates, on average ``(trial,)``.

        The first is the mean validation score of the best of n candidates, drawn without
        replacement; the second the test score of that one.
        """
        order = np.argsort(self.validation.mean(-1), kind="stable")
        count = len(order)
        chances = np.zeros((count, count))  # (trial, rank): that the best of n has this rank
        for n in range(1, count + 1):
            left = 1.0
            for rank in range(count - n + 1):
                chances[n - 1, rank] = left * n / (count - rank)
                left -= chances[n - 1, rank]
        means = (self.validation.mean(-1)[order], self.test.mean(-1)[order])
        return chances @ means[0], chances @ means[1]


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
    """Collect the validation scores that choose an algorithm's cell."""
    records = candidates(study, algorithm)
    sizes = [getattr(record.cell.hyperparameters, "meta_step_size", 0.0) for record in records]
    updates = [study.chosen_update(record, protocol, step) for record in records]
    every = list(zip(records, updates, strict=True))
    return Selection(
        protocol,
        step,
        records,
        updates,
        validation=np.stack(
            [study.validation_scores(record, protocol, step)[n] for record, n in every]
        ),
        test=np.stack([study.scores(record, protocol, step)[0, n].mean(-1) for record, n in every]),
        meta_step_size=np.array(sizes, dtype=np.float64),
    )
