"""Confidence intervals of one cell's statistics over seeds and tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit, ndtr, ndtri, stdtrit

from metabench.analysis.statistics.estimates import WindowMean
from metabench.analysis.statistics.losses import Floats, Scale, checked
from metabench.analysis.statistics.resampling import Resamples, resampled

LINK: dict[Scale, Callable[[Floats], Floats]] = {"raw": np.asarray, "log": np.log, "logit": logit}

FEWEST_SEEDS = 5
"""The fewest seeds with which the interval of a mean loss covers what it states."""

LARGEST_SHARE = 0.5
"""The largest share of a mean loss that one seed or one task may have if it has an interval."""

LARGEST_VARIANCE = 0.3
"""The largest variance of a mean, on its scale, up to which its skewness widens the interval."""


class Interval(NamedTuple):
    """An estimate and the bounds of its confidence interval; nan bounds where there is none."""

    estimate: float
    lower: float
    upper: float


def mean_interval(losses: ArrayLike, confidence: float = 0.95, scale: Scale = "log") -> Interval:
    """Return the mean with its two-way variance-component t interval.

        Var(mean) = max(MS_seed + MS_task - MS_residual, MS_seed, MS_task) / (S B)

    Degrees of freedom are Satterthwaite's. The bounds are computed on the scale (delta method):
    those of a loss are positive, those of a share lie in [0, 1]. On a curved scale they are farther
    away, the more so the larger the standard error (`_arms`). One seed alone: over tasks only.

    Args:
        losses: ``(seed, task)``; if any is not finite, the result is (inf, nan, nan).
        confidence: Stated coverage.
        scale: "log" for losses, "raw" for values that may be negative, "logit" for shares.

    Raises:
        ValueError: Not a (seed, task) array, or a value outside the scale's domain.

    Reference: Searle et al. 1992, "Variance components", ch. 4; Satterthwaite 1946,
        doi:10.2307/3002019.
    """
    x = checked(losses, scale)
    if not np.isfinite(x).all():
        return Interval(np.inf, np.nan, np.nan)
    mean = float(x.mean())
    slopes = {"raw": 1.0, "log": mean, "logit": mean * (1 - mean)}
    curvatures = {"raw": 0.0, "log": 1.0, "logit": 1 - 2 * mean}
    # A slope of 0 means constant zeros or ones, which have no variance to divide by it.
    slope = slopes[scale] or 1.0
    variance, freedom = variance_of_mean(x, slope)
    return _t_interval(mean, variance, freedom, confidence, scale, curvatures[scale])


def determined(losses: ArrayLike) -> bool:
    """Return whether losses ``(seed, task)`` determine an interval of their mean.

    They do not if one seed or one task has more than half of their sum, since the bounds then
    depend on hardly anything but the number of degrees of freedom. Nor do fewer than five seeds;
    baselines without seeds have one row. What this leaves out was chosen by the coverage of what
    remains (docs/decisions/0023-means-without-an-interval.md).
    """
    x = np.asarray(losses, dtype=np.float64)
    seeds, tasks = x.shape
    if 1 < seeds < FEWEST_SEEDS or not np.isfinite(x).all():
        return False
    margins = [x.sum(axis) for axis, size in ((1, seeds), (0, tasks)) if size > 1]
    return all(margin.max() <= LARGEST_SHARE * x.sum() for margin in margins)


def variance_of_mean(x: Floats, slope: float) -> tuple[float, float]:
    """Return the variance of the grand mean, over a slope squared, and its degrees of freedom.

    They are 0 where a single value carries no information.
    """
    squares, degrees = _mean_squares(x)
    # The delta method: the variance on the scale is that of the mean over the squared slope.
    parts = squares / x.size / slope**2
    # The residual is subtracted, so the sum may be too small or even negative. The variance over
    # one margin alone is a lower limit.
    variance = max(parts[0] + parts[1] - parts[2], parts[0], parts[1])
    return float(variance), _freedom(variance, parts, degrees)


def crossed_intervals(
    statistics: Sequence[WindowMean],
    losses: ArrayLike,
    draws: Resamples,
    confidence: float = 0.95,
    scale: Scale = "log",
) -> list[Interval]:
    """Return pooled statistics, each with its crossed bootstrap t interval.

    All statistics share one pass over the resamples.

        Var = S/(S-1) Var_seeds + B/(B-1) Var_tasks

    Each variance is that of the (log) statistic when this margin alone is resampled, read off the
    middle 68% of the resamples, which a few infinite ones (a diverged seed drawn often) do not
    affect. n/(n-1) and Student's t with Satterthwaite's degrees of freedom correct for few seeds.
    One seed alone: over tasks only.

    Args:
        statistics: Each `median`, `iqm`, `p95` or another `WindowMean`.
        losses: ``(seed, task)``, diverged ones inf; if a statistic is inf, its interval is (inf,
            nan, nan).
        draws: From `resamples`, of the same numbers of seeds and tasks.
        confidence: Stated coverage.
        scale: As in `mean_interval`.

    Raises:
        ValueError: `draws` have different sizes, or a value lies outside the scale's domain.
    """
    x = checked(losses, scale)
    drawn = (draws.seeds.shape[1], draws.tasks.shape[1])
    if x.shape not in (drawn, (1, drawn[1])):
        raise ValueError(
            f"resamples are of {drawn} (seeds, tasks), losses of {x.shape}; draw them for the same"
        )
    # A margin with a single member cannot be resampled.
    margins = [axis for axis in (0, 1) if x.shape[axis] > 1]
    sizes = np.array([x.shape[axis] for axis in margins])
    per_margin = [resampled(statistics, x, draws.counts[axis], axis) for axis in margins]
    found = []
    for n, statistic in enumerate(statistics):
        errors = np.array([_spread(estimates[n], scale) for estimates in per_margin])
        # A resample has the variance with denominator n; n / (n - 1) removes that bias.
        parts = errors**2 * sizes / (sizes - 1)
        variance = float(parts.sum())
        freedom = _freedom(variance, parts, sizes - 1)
        found.append(_t_interval(statistic(x), variance, freedom, confidence, scale))
    return found


def crossed_interval(
    statistic: WindowMean,
    losses: ArrayLike,
    draws: Resamples,
    confidence: float = 0.95,
    scale: Scale = "log",
) -> Interval:
    """Return the result of `crossed_intervals` for one statistic."""
    return crossed_intervals([statistic], losses, draws, confidence, scale)[0]


def _spread(estimates: Floats, scale: Scale) -> float:
    """Return the standard error from the middle 68% of the resampled estimates.

    It is inf where they are not finite.
    """
    with np.errstate(divide="ignore"):
        values = LINK[scale](estimates)
    # Interpolation next to an infinite estimate would give nan.
    lower, upper = np.quantile(values, [ndtr(-1), ndtr(1)], method="nearest")
    return float((upper - lower) / 2) if np.isfinite([lower, upper]).all() else float("inf")


def _mean_squares(x: Floats) -> tuple[Floats, Floats]:
    """Return mean squares and degrees of freedom of (seed, task, residual).

    Both are 0 where one seed or one task carries no information.
    """
    seeds, tasks = x.shape
    seed, task = x.mean(1, keepdims=True) - x.mean(), x.mean(0, keepdims=True) - x.mean()
    residual = x - x.mean() - seed - task
    sums = np.array([tasks * (seed**2).sum(), seeds * (task**2).sum(), (residual**2).sum()])
    degrees = np.array([seeds - 1.0, tasks - 1.0, (seeds - 1.0) * (tasks - 1.0)])
    # The maximum only prevents a division by zero in entries that are discarded.
    return np.where(degrees > 0, sums / np.maximum(degrees, 1), 0.0), degrees


def _freedom(variance: float, parts: Floats, degrees: NDArray[np.number]) -> float:
    """Return Satterthwaite's degrees of freedom, V^2 / sum(part^2 / degrees), or 0 if none."""
    known = degrees > 0
    if not known.any():
        return 0.0
    if not 0 < variance < np.inf:
        # A bound at a distance of 0 or inf is the same for any number of degrees.
        return 1.0
    return float(variance**2 / (parts[known] ** 2 / degrees[known]).sum())


def _t_interval(
    estimate: float,
    variance: float,
    freedom: float,
    confidence: float,
    scale: Scale,
    curvature: float = 0.0,
) -> Interval:
    """Return the estimate with bounds at the distances of `_arms` on its scale."""
    if not (freedom and np.isfinite(estimate)):
        return Interval(estimate, np.nan, np.nan)
    below, above = _arms(variance, freedom, confidence, curvature)
    return Interval(estimate, _moved(estimate, -below, scale), _moved(estimate, above, scale))


def _arms(
    variance: float, freedom: float, confidence: float, curvature: float
) -> tuple[float, float]:
    """Return how far below and above the estimate the bounds lie, on its scale.

        h^2 = (t s)^2 + (2 z^2 k min(s^2, 0.3))^2,   below = h / r,   above = h r,   r = 1 + k h / 4

    s is the standard error and z the normal quantile. k is the second derivative of the mean by its
    transform, over the first: 0 on the raw scale, 1 on the log scale, 1 - 2 mean on the logit
    scale. A negative k swaps the two distances.

    Values that vary by factors are skewed. A sample without one of their rare large values has a
    mean that is too low and a standard error that is too small, as its square root: so the standard
    error halfway to the upper bound is about r times the estimated one. The second term of h is of
    a higher order in s, so it vanishes for large samples. Its factor 2 was chosen by simulation
    (docs/decisions/0022-intervals-of-skewed-means.md). It grows no further than in the simulations:
    a larger s means that one value rules the mean, which then is not missing from the sample.
    """
    level = (1 + confidence) / 2
    half = float(stdtrit(freedom, level) * np.sqrt(variance))
    if curvature == 0:
        return half, half
    skewed = curvature * min(variance, LARGEST_VARIANCE)
    half = math.hypot(half, 2 * float(ndtri(level)) ** 2 * skewed)
    ratio = 1 + abs(curvature) * half / 4
    return (half / ratio, half * ratio) if curvature > 0 else (half * ratio, half / ratio)


def _moved(estimate: float, step: float, scale: Scale) -> float:
    """Return the estimate shifted by a step on its scale."""
    # A wide interval may reach inf, and an estimate of 0 moved by inf is nan: both are meant.
    with np.errstate(over="ignore", invalid="ignore"):
        if scale == "raw":
            return estimate + step
        if scale == "log":
            return float(estimate * np.exp(step))
        # This is expit(logit(estimate) + step), in a form that is exact at 0 and at 1.
        return float(estimate / (estimate + (1 - estimate) * np.exp(-step)))
