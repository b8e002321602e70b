"""The choice of a cell on the validation bank, and how far it can be trusted.

winner = argmin over cells of the median over seeds of the mean validation loss
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from metabench.analysis.statistics import Floats, Integers, with_inf_for_nan


def select(validation: ArrayLike, diverged: ArrayLike, meta_step_size: ArrayLike) -> int:
    """Return the index of the cell with the least median over seeds of its validation loss.

    A cell with a diverged run (or a loss that is not finite) ranks last; ties go to the smaller
    meta step.

    Args:
        validation: Mean validation losses, ``(cell, seed)``.
        diverged: Which runs diverged, ``(cell, seed)`` bool.
        meta_step_size: ``(cell,)``.
    """
    return int(
        _selected(validation, diverged, meta_step_size, np.arange(np.shape(validation)[1])[None])[0]
    )


def leave_one_seed_out(
    validation: ArrayLike, diverged: ArrayLike, meta_step_size: ArrayLike
) -> Integers:
    """Return, for each seed, the cell that the others select ``(seed,)``: its loss on this seed has
    no winner's curse.

    Args are those of `select`, with at least 2 seeds (ValueError).
    """
    seeds = np.shape(validation)[1]
    if seeds < 2:
        raise ValueError(f"leaving one seed out needs at least 2 seeds; got {seeds}")
    others = [np.delete(np.arange(seeds), left_out) for left_out in range(seeds)]
    return _selected(validation, diverged, meta_step_size, np.stack(others))


def selection_frequency(
    validation: ArrayLike, diverged: ArrayLike, meta_step_size: ArrayLike, seed_resamples: Integers
) -> Floats:
    """Return the share of resamples ``(resample, seed)`` that select each cell ``(cell,)``; args as
    in `select`.
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
