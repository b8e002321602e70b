"""Ranks of several contenders, and how they vary over seeds and tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from metabench.analysis.statistics.losses import Floats
from metabench.analysis.statistics.resampling import Resamples, resampled_means


def ranks(values: Sequence[ArrayLike], draws: Resamples) -> Floats:
    """Return the rank of each contender's mean in every resample, ``(resample, contender)``.

    Rank 1 has the lowest mean; ties share their mean rank. Seeds and tasks are resampled together,
    identically for all.

    Args:
        values: ``(seed, task)`` of each contender; a seedless one has one row.
        draws: From `resamples`.
    """
    means = np.stack([resampled_means(np.asarray(value), draws) for value in values], axis=-1)
    return ranked(means)


def ranked(means: ArrayLike) -> Floats:
    """Return the rank of each number along the last axis, ``(..., contender)``.

    The lowest has rank 1; ties share their mean rank.
    """
    values = np.asarray(means)
    # All pairs are compared: contenders are few, and ties need no special case.
    less = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    return less + (1 + equal) / 2
