"""The crossed bootstrap: seeds and tasks drawn with replacement, independently of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, sqrt

import numpy as np

from metabench.analysis.statistics.estimates import WindowMean, overlap
from metabench.analysis.statistics.losses import Floats, Integers
from metabench.learning.randomness import uniforms


@dataclass(frozen=True)
class Resamples:
    """Multisets of seeds ``(resample, seed)`` and of tasks ``(resample, task)``, as indices."""

    seeds: Integers
    tasks: Integers

    @cached_property
    def counts(self) -> tuple[Floats, Floats]:
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


def _counts(draws: Integers) -> Floats:
    # Products of matrices of whole numbers are exact in float64, and faster than those of integers.
    size = draws.shape[1]
    return np.stack([np.bincount(draw, minlength=size) for draw in draws]).astype(np.float64)


def resampled(
    statistics: Sequence[WindowMean], losses: Floats, counts: Floats, axis: int
) -> Floats:
    """Return statistics ``(statistic, resample)`` when only one axis is resampled.

    Axis 0 is the seeds, axis 1 the tasks; `counts` are those of this axis.
    """
    multisets = Multisets.of(losses, counts, axis)
    return np.stack([multisets.mean(*one.window(losses.size)) for one in statistics])


@dataclass(frozen=True)
class Multisets:
    """The multisets of losses that resamples of one axis give, cut into blocks of sorted losses.

    A resample changes only how often each loss counts, so the losses are sorted once. A window of
    ranks starts within one block and ends within another. All blocks in between count whole, so
    their sums suffice. There are about as many blocks as losses in each.

    Args:
        values: Sorted losses ``(block, place)``, with 0 in place of inf and after the last.
        members: The seed or task of each, ``(block, place)``.
        counts: How often each seed or task is drawn, ``(resample, member)``.
        finite: Number of finite losses, ``(resample,)``.
        ends: Number of losses up to the end of each block, ``(resample, 1 + block)``; first 0. What
            fills up the last block is counted too.
        sums: Sum of the losses in each block, ``(resample, block)``.
    """

    values: Floats
    members: Integers
    counts: Floats
    finite: Floats
    ends: Floats
    sums: Floats

    @classmethod
    def of(cls, losses: Floats, counts: Floats, axis: int) -> Multisets:
        """Return the multisets of losses ``(seed, task)``; the arguments are those of `resampled`.

        Losses are not nan.
        """
        finite = np.isfinite(losses)
        # A stable sort orders ties equally on every machine.
        order = np.argsort(losses, axis=None, kind="stable")
        place = np.unravel_index(order, losses.shape)[axis]
        # What fills up the last block lies beyond every window.
        size = ceil(sqrt(losses.size))
        filled = (0, -losses.size % size)
        values = np.pad(np.where(finite, losses, 0).ravel()[order], filled).reshape(-1, size)
        members = np.pad(place, filled).reshape(-1, size)
        sizes, sums = np.zeros((2, counts.shape[1], len(members)))
        at = (members, np.arange(len(members))[:, None])
        np.add.at(sizes, at, 1)
        np.add.at(sums, at, values)
        ends = np.pad((counts @ sizes).cumsum(1), ((0, 0), (1, 0)))
        known = counts @ finite.sum(1 - axis)
        return cls(values, members, counts, known, ends, counts @ sums)

    def mean(self, start: float, length: float) -> Floats:
        """Return the mean of the losses between two ranks, ``(resample,)``; see `WindowMean`."""
        end = start + length
        first, last = (self.ends[:, 1:] <= start).sum(1), (self.ends[:, 1:] < end).sum(1)
        block, every = np.arange(len(self.values)), np.arange(len(self.counts))
        between = (first[:, None] < block) & (block < last[:, None])
        total = np.where(between, self.sums, 0).sum(1)
        total += self._part(every, first, start, end)
        apart = np.flatnonzero(first < last)
        total[apart] += self._part(apart, last[apart], start, end)
        return np.where(end > self.finite, np.inf, total / length)

    def _part(self, resample: Integers, block: Integers, start: float, end: float) -> Floats:
        """Return the sum of the losses of one block of each resample that are in the window."""
        size = self.counts.shape[1]
        places = resample[:, None] * size + self.members[block]  # take is faster than two indices
        drawn = self.counts.take(places)  # (resample, place)
        upper = self.ends[resample, block][:, None] + drawn.cumsum(1)
        weight = overlap(upper - drawn, upper, start, end)
        return np.einsum("rp,rp->r", weight, self.values[block])


def resampled_means(values: Floats, draws: Resamples) -> Floats:
    """Return the mean of each resample, ``(resample,)``."""
    seeds, tasks = values.shape
    of_seeds, of_tasks = draws.counts
    if seeds == 1:
        return of_tasks @ values[0] / tasks
    weighted = of_seeds @ values  # (resample, task)
    return (weighted * of_tasks).sum(-1) / (seeds * tasks)
