"""The crossed bootstrap: seeds and tasks drawn with replacement, independently of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from metabench.analysis.statistics.estimates import WindowMean
from metabench.analysis.statistics.losses import Floats, Integers
from metabench.learning.randomness import uniforms

# Resampled losses that are held at once. They stay in a processor's cache.
CHUNK = 200_000


@dataclass(frozen=True)
class Resamples:
    """Multisets of seeds ``(resample, seed)`` and of tasks ``(resample, task)``, as indices."""

    seeds: Integers
    tasks: Integers

    @cached_property
    def counts(self) -> tuple[Integers, Integers]:
        """How often each seed and each task is drawn, in the shapes of the indices."""
        return _counts(self.seeds), _counts(self.tasks)


def resamples(key: int | str, seeds: int, tasks: int, count: int) -> Resamples:
    """Return the multisets of the crossed bootstrap: one of seeds and one of tasks per resample.

    They are the same for all cells.

    The r-th seeds depend on neither `tasks` nor `count`, the r-th tasks on neither `seeds` nor
    `count`. `key` is the study's name; the others are numbers.

    Reference: Owen 2007, "The pigeonhole bootstrap", doi:10.1214/07-AOAS122.
    """

    def draws(offset: int, size: int) -> Integers:
        # Even blocks are seeds and odd ones tasks, so neither depends on how many of the other
        # exist.
        blocks = [uniforms(key, "bootstrap", 2 * r + offset, size) for r in range(count)]
        return (np.stack(blocks) * size).astype(np.int64)

    return Resamples(draws(0, seeds), draws(1, tasks))


def _counts(draws: Integers) -> Integers:
    # int32 holds every count and moves half the bytes of int64.
    size = draws.shape[1]
    return np.stack([np.bincount(draw, minlength=size) for draw in draws]).astype(np.int32)


def resampled(
    statistics: Sequence[WindowMean], losses: Floats, counts: Integers, axis: int
) -> Floats:
    """Return statistics ``(statistic, resample)`` when only one axis is resampled.

    Axis 0 is the seeds, axis 1 the tasks; `counts` are those of this axis.
    """
    # The losses are sorted once, since a resample changes only how often each one counts. A stable
    # sort orders ties equally on every machine.
    order = np.argsort(losses, axis=None, kind="stable")
    values, members = losses.ravel()[order], np.unravel_index(order, losses.shape)[axis]
    rows = max(1, CHUNK // losses.size)
    found = []
    for i in range(0, len(counts), rows):
        ranks = np.cumsum(np.take(counts[i : i + rows], members, axis=1), axis=1, dtype=np.int32)
        found.append([statistic.of_ranks(values, ranks) for statistic in statistics])
    return np.concatenate(found, axis=1)


def resampled_means(values: Floats, draws: Resamples) -> Floats:
    """Return the mean of each resample, ``(resample,)``."""
    seeds, tasks = values.shape
    of_seeds, of_tasks = draws.counts
    if seeds == 1:
        return of_tasks @ values[0] / tasks
    weighted = of_seeds @ values  # (resample, task)
    return (weighted * of_tasks).sum(-1) / (seeds * tasks)
