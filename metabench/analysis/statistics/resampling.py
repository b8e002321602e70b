"""The crossed bootstrap: seeds and tasks drawn with replacement, independently of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from metabench.analysis.statistics.estimates import WindowMean, overlap
from metabench.analysis.statistics.losses import Floats, Integers
from metabench.learning.randomness import uniforms

BLOCK = 128
"""Number of sorted losses in a block of `Multisets`."""


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
    multisets = Multisets.of(losses, counts, axis)
    return np.stack([multisets.mean(*one.window(losses.size)) for one in statistics])


@dataclass(frozen=True)
class Multisets:
    """The multisets of losses that resamples of one axis give, cut into blocks of sorted losses.

    A resample changes only how often each loss counts, so the losses are sorted once. A window of
    ranks starts within one block and ends within another. All blocks in between count whole, so
    their sums suffice.

    Args:
        values: Sorted losses ``(block, place)``, with 0 in place of inf.
        members: The seed or task of each, ``(block, place)``.
        counts: How often each seed or task is drawn, ``(resample, member)``.
        finite: Number of finite losses, ``(resample,)``.
        sizes: Number of losses in each block, ``(resample, block)``.
        sums: Sum of the losses in each block, ``(resample, block)``.
    """

    values: Floats
    members: Integers
    counts: Integers
    finite: Floats
    sizes: Floats
    sums: Floats

    @classmethod
    def of(cls, losses: Floats, counts: Integers, axis: int) -> Multisets:
        """Return the multisets of losses ``(seed, task)``; the arguments are those of `resampled`.

        Losses are not nan.
        """
        # A stable sort orders ties equally on every machine.
        order = np.argsort(losses, axis=None, kind="stable")
        members = np.unravel_index(order, losses.shape)[axis]
        finite = np.isfinite(losses)
        values = np.where(finite, losses, 0).ravel()[order]
        # The last block is filled up with losses of a further member, which is never drawn.
        missing = -losses.size % BLOCK
        counts = np.pad(counts, ((0, 0), (0, 1)))
        values = np.pad(values, (0, missing)).reshape(-1, BLOCK)
        members = np.pad(members, (0, missing), constant_values=counts.shape[1] - 1)
        members = members.reshape(-1, BLOCK)
        # Products of matrices of whole numbers are exact in float64, whatever their order of sums.
        drawn = counts.astype(np.float64)
        place = (members, np.arange(len(members))[:, None])
        sizes, sums = np.zeros((2, counts.shape[1], len(members)))
        np.add.at(sizes, place, 1)
        np.add.at(sums, place, values)
        finite = drawn[:, :-1] @ finite.sum(1 - axis)
        return cls(values, members, counts, finite, drawn @ sizes, drawn @ sums)

    def mean(self, start: float, length: float) -> Floats:
        """Return the mean of the losses between two ranks, ``(resample,)``; see `WindowMean`."""
        end = start + length
        ends = self.sizes.cumsum(1)
        first, last = (ends <= start).sum(1), (ends < end).sum(1)
        block = np.arange(ends.shape[1])
        between = (first[:, None] < block) & (block < last[:, None])
        total = np.where(between, self.sums, 0).sum(1)
        for here, counted in ((first, True), (last, first < last)):
            total += np.where(counted, self._part(here, ends, start, end), 0)
        return np.where(end > self.finite, np.inf, total / length)

    def _part(self, block: Integers, ends: Floats, start: float, end: float) -> Floats:
        """Return the sum of the losses of one block of each resample that are in the window."""
        each = np.arange(len(block))
        count = self.counts[each[:, None], self.members[block]]  # (resample, place)
        upper = (ends - self.sizes)[each, block][:, None] + count.cumsum(1)
        weight = overlap(upper - count, upper, start, end)
        return np.einsum("rp,rp->r", weight, self.values[block])


def resampled_means(values: Floats, draws: Resamples) -> Floats:
    """Return the mean of each resample, ``(resample,)``."""
    seeds, tasks = values.shape
    of_seeds, of_tasks = draws.counts
    if seeds == 1:
        return of_tasks @ values[0] / tasks
    weighted = of_seeds @ values  # (resample, task)
    return (weighted * of_tasks).sum(-1) / (seeds * tasks)
