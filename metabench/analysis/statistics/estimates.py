"""Point estimates of the pooled losses of all seeds and tasks: quantiles and trimmed means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from metabench.analysis.statistics.losses import Floats, with_inf_for_nan


@dataclass(frozen=True)
class WindowMean:
    """The mean of the sorted values between two ranks: an L-estimator.

    The values of all seeds and tasks are pooled.

    Each of N sorted values fills one unit of the rank axis 0..N, and `window` maps N to (start,
    length) on it. A quantile is a window of length 1. Where the window touches an infinite value,
    the statistic is inf.
    """

    window: Callable[[int], tuple[float, float]]

    def __call__(self, losses: ArrayLike) -> float:
        """Return the statistic of `losses`, of any shape."""
        values = np.sort(with_inf_for_nan(losses), axis=None)
        start, length = self.window(values.size)
        ranks = np.arange(values.size)
        weight = overlap(ranks, ranks + 1, start, start + length)
        seen = weight > 0  # an infinite value counts only where it has weight
        return float(weight[seen] @ values[seen] / length)


def overlap(lower: ArrayLike, upper: ArrayLike, start: float, end: float) -> Floats:
    """Return the length of the part of each interval (lower, upper) that is within (start, end)."""
    return np.maximum(np.minimum(upper, end) - np.maximum(lower, start), 0.0)


def quantile(percent: int) -> WindowMean:
    """Return the statistic "this percentile of the pooled losses", linearly interpolated."""
    # The division comes last, so that whole ranks stay exact: 0.55 * 100 exceeds 55 in float64.
    return WindowMean(lambda n: (percent * (n - 1) / 100, 1))


median = quantile(50)
"""Median of the pooled losses."""
p95 = quantile(95)
"""95th percentile of the pooled losses."""
iqm = WindowMean(lambda n: (n / 4, n / 2))
"""Interquartile mean of the pooled losses: the mean of their middle half.

Reference: Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice",
    arXiv:2108.13264."""


def cvar(percent: int) -> WindowMean:
    """Return the statistic "mean of all losses above this percentile": the tail's expected loss.

    Reference: Rockafellar and Uryasev 2000, "Optimization of conditional value-at-risk",
        doi:10.21314/JOR.2000.038.
    """
    return WindowMean(lambda n: (percent * n / 100, (100 - percent) * n / 100))
