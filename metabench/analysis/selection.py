"""Select a cell on the validation bank, and measure how far the selection can be trusted.

winner = argmin over cells of the mean over seeds and tasks of the validation score after the number
of updates at which it is lowest
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metabench.analysis.columns import precedence
from metabench.analysis.measured import Study
from metabench.analysis.statistics.losses import Floats, Integers
from metabench.records.measured import CellRecord


def select(validation: ArrayLike, meta_step_size: ArrayLike) -> tuple[int, int]:
    """Return the cell with the lowest mean score over seeds, and the update at which it has it.

    A run that diverged has the score 1. Ties go to the smaller meta step and to the first update.

    Args:
        validation: Mean validation scores after some updates, ``(cell, update, seed)``.
        meta_step_size: ``(cell,)``.
    """
    every_seed = np.arange(np.shape(validation)[-1])[None]
    cell, update = _selected(validation, meta_step_size, every_seed)
    return int(cell[0]), int(update[0])


def leave_one_seed_out(
    validation: ArrayLike, meta_step_size: ArrayLike
) -> tuple[Integers, Integers]:
    """Return, for each seed, the cell and update that the other seeds select, ``(seed,)`` each.

    Its score on this seed has no winner's curse. Args are those of `select`, with at least 2 seeds
    (ValueError).
    """
    seeds = np.shape(validation)[-1]
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
    winners, _ = _selected(validation, meta_step_size, seed_resamples)
    return np.bincount(winners, minlength=np.size(meta_step_size)) / winners.size


def _selected(
    validation: ArrayLike, meta_step_size: ArrayLike, seeds: Integers
) -> tuple[Integers, Integers]:
    """Return the cell and the update that each row of seeds ``(choice, n)`` selects."""
    means = np.asarray(validation, dtype=np.float64)[..., seeds].mean(-1)  # (cell, update, choice)
    updates, least = means.argmin(1), means.min(1)
    cells = _order(least, meta_step_size)[0]
    return cells, np.take_along_axis(updates, cells[None], axis=0)[0]


def _order(scores: Floats, meta_step_size: ArrayLike) -> Integers:
    """Return the cells in the order of their scores ``(cell, ...)``, ties by the meta step."""
    steps = np.asarray(meta_step_size, dtype=np.float64)
    steps = steps.reshape(-1, *[1] * (scores.ndim - 1))
    return np.lexsort((np.broadcast_to(steps, scores.shape), scores), axis=0)


class Selection(NamedTuple):
    """The validation results of one algorithm's cells under a protocol and step rule.

    Args:
        protocol: The protocol.
        step: The kind of step size.
        records: The candidates.
        measured: The numbers of updates after which they are compared, ``(update,)``.
        validation: Their mean validation scores after each, ``(cell, update, seed)``.
        test: The same of their mean test scores.
        meta_step_size: ``(cell,)``; 0 for those that have none.
    """

    protocol: str
    step: str
    records: list[CellRecord]
    measured: Integers
    validation: NDArray[np.float64]
    test: NDArray[np.float64]
    meta_step_size: NDArray[np.float64]

    @property
    def winner(self) -> int:
        """The selected cell's index."""
        return select(self.validation, self.meta_step_size)[0]

    @property
    def updates(self) -> Integers:
        """The number of updates at which each cell's score is lowest, ``(cell,)``."""
        return self.measured[self._best]

    @property
    def _best(self) -> Integers:
        return self.validation.mean(-1).argmin(-1)

    @property
    def scores(self) -> Floats:
        """Each cell's validation score after that number of updates, ``(cell,)``."""
        return self.validation.mean(-1).min(-1)

    def frequency(self, seed_resamples: Integers) -> Floats:
        """Return the share of resamples ``(resample, seed)`` that select each cell, ``(cell,)``."""
        return selection_frequency(self.validation, self.meta_step_size, seed_resamples)

    @property
    def held_out_score(self) -> float:
        """Mean test score of each seed under the cell and updates that the other seeds select.

        NaN if there is only one seed.
        """
        seeds = self.validation.shape[-1]
        if seeds < 2:
            return np.nan
        cells, updates = leave_one_seed_out(self.validation, self.meta_step_size)
        return float(self.test[cells, updates, range(seeds)].mean())

    def after_trials(self) -> tuple[Floats, Floats]:
        """Return the average result of 1, 2, ... trials of the candidates, ``(trial,)``.

        The first is the mean validation score of the best of n candidates, drawn without
        replacement; the second is the test score of that one.
        """
        order = _order(self.scores, self.meta_step_size)
        count = len(order)
        chances = np.zeros((count, count))  # (trial, rank): that the best of n has this rank
        for n in range(1, count + 1):
            left = 1.0
            for rank in range(count - n + 1):
                chances[n - 1, rank] = left * n / (count - rank)
                left -= chances[n - 1, rank]
        test = self.test.mean(-1)[range(count), self._best]
        return chances @ self.scores[order], chances @ test[order]


def candidates(study: Study, algorithm: str) -> list[CellRecord]:
    """Return the cells among which selection chooses: published and grid."""
    return [
        record
        for record in study.cells
        if record.cell.algorithm == algorithm and record.cell.role in ("published", "grid")
    ]


def algorithms(study: Study) -> list[str]:
    """Return the algorithms that have cells to select from."""
    names = {record.cell.algorithm for record in study.cells}
    return sorted(name for name in names if candidates(study, name))


def step_of(record: CellRecord, protocol: str) -> str:
    """Return the kind of step size by which a cell is judged: its own, else the tuned one."""
    return min(record.steps(protocol), key=precedence)


def compares_selected(study: Study) -> bool:
    """Return whether an algorithm has several cells to select from, of which none is published.

    Then every algorithm is represented by its selected cell, so that all were chosen alike.
    """
    every = (candidates(study, name) for name in algorithms(study))
    return any(len(found) > 1 and not _published(found) for found in every)


def _published(records: list[CellRecord]) -> list[CellRecord]:
    return [record for record in records if record.cell.role == "published"]


def shown(study: Study, algorithm: str, protocol: str) -> list[CellRecord]:
    """Return the cells that represent an algorithm: those published, or the selected one."""
    found = candidates(study, algorithm)
    if not study.once(compares_selected) and (published := _published(found)):
        return published
    selection = study.once(selection_of, algorithm, protocol, step_of(found[0], protocol))
    return [selection.records[selection.winner]]


def pictured(study: Study) -> list[tuple[str, CellRecord]]:
    """Return the protocols that have pictures, each with every cell that is shown under it."""
    return [
        (protocol, record)
        for protocol in study.single_protocols
        for name in algorithms(study)
        for record in study.once(shown, name, protocol)
    ]


def selection_of(study: Study, algorithm: str, protocol: str, step: str) -> Selection:
    """Collect the validation scores that select an algorithm's cell."""
    records = candidates(study, algorithm)
    sizes = [getattr(record.cell.hyperparameters, "meta_step_size", 0.0) for record in records]
    return Selection(
        protocol,
        step,
        records,
        measured=np.array(study.protocols[protocol].measured)[1:],
        validation=np.stack(
            [study.validation_scores(record, protocol, step)[1:] for record in records]
        ),
        test=np.stack([study.scores(record, protocol, step)[0, 1:].mean(-1) for record in records]),
        meta_step_size=np.array(sizes, dtype=np.float64),
    )
