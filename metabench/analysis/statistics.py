"""Statistics of losses and scores: point estimates, intervals and ranks.

Intervals are for crossed seeds and tasks:

    x[s, t] = mu + seed_s + task_t + residual_st losses of one cell: every seed with every task

Both seeds and tasks are drawn, so an interval must count both: n is the pair (seeds, tasks), never
their product. Losses are float64 arrays ``(seed, task)`` that may contain inf; nan counts as inf,
and nothing is ever dropped. Measured coverage of every interval: docs/statistics.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit, ndtr, stdtrit

from metabench.learning.randomness import uniforms

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Scale = Literal["raw", "log", "logit"]

ROUNDING = 1e-12  # a loss below is rounding: float32 holds a wave of amplitude 5 to 3e-7; its square is 9e-14
DOMAIN = {"raw": (-np.inf, np.inf), "log": (0, np.inf), "logit": (0, 1)}
LINK: dict[Scale, Callable[[Floats], Floats]] = {"raw": np.asarray, "log": np.log, "logit": logit}
CHUNK = 200_000  # resampled losses held at once: what stays in a processor's cache


class Interval(NamedTuple):
    """An estimate and the bounds of its confidence interval; nan bounds where there is none."""

    estimate: float
    lower: float
    upper: float


class Resamples(NamedTuple):
    """Multisets of seeds ``(resample, seed)`` and of tasks ``(resample, task)``, as indices."""

    seeds: Integers
    tasks: Integers


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
        return float(self.of_ranks(values, np.arange(1, values.size + 1)))

    def of_ranks(self, values: Floats, ranks: Integers) -> Floats:
        """Return the statistic of multisets of sorted values ``(N,)``, given by cumulative counts.

        Counts are ``(..., N)``.
        """
        start, length = self.window(int(ranks[..., -1].flat[0]))
        first = bisect_left(
            range(values.size), True, key=lambda j: bool((ranks[..., j] > start).any())
        )
        last = bisect_left(
            range(values.size), True, key=lambda j: bool((ranks[..., j] >= start + length).all())
        )
        share = np.clip(
            (ranks[..., first : last + 1] - start) / length, 0, 1
        )  # of the window, up to each value
        weight = np.diff(share, axis=-1, prepend=0)
        seen = values[first : last + 1]
        finite = np.isfinite(seen)
        estimate = weight @ np.where(finite, seen, 0)
        return np.where(weight[..., ~finite].any(-1), np.inf, estimate)


def quantile(percent: int) -> WindowMean:
    """Return the statistic "this percentile of the pooled losses", linearly interpolated."""
    return WindowMean(
        lambda n: (percent * (n - 1) / 100, 1)
    )  # divided last: whole ranks stay exact


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


def mean_interval(losses: ArrayLike, confidence: float = 0.95, scale: Scale = "log") -> Interval:
    """Return the mean with its two-way variance-component t interval.

        Var(mean) = (MS_seed + MS_task - MS_residual) / (S B), not below max(MS_seed, MS_task) / (S
        B)

    Degrees of freedom are Satterthwaite's. On the log scale (delta method) the bounds are mean *
    exp(-+ t SE / mean): positive, and closer to the stated coverage for skewed losses. One seed
    alone: over tasks only.

    Args:
        losses: ``(seed, task)``; if any is not finite, the result is (inf, nan, nan).
        confidence: Stated coverage.
        scale: "log" for losses, "raw" for values that may be negative, "logit" for shares.

    Raises:
        ValueError: Not a (seed, task) array, or a value outside the scale's domain.

    Reference: Searle et al. 1992, "Variance components", ch. 4; Satterthwaite 1946,
        doi:10.2307/3002019.
    """
    x = _checked(losses, scale)
    if not np.isfinite(x).all():
        return Interval(np.inf, np.nan, np.nan)
    mean = float(x.mean())
    slope = {"raw": 1.0, "log": mean, "logit": mean * (1 - mean)}[
        scale
    ] or 1.0  # constant zeros or ones: no variance
    variance, freedom = _variance(x, slope)
    return _t_interval(mean, variance, freedom, confidence, scale)


def _variance(x: Floats, slope: float) -> tuple[float, float]:
    """Return the variance of the grand mean, over a slope squared, and its degrees of freedom.

    They are 0 where a single value carries no information.
    """
    squares, degrees = _mean_squares(x)
    parts = squares / x.size / slope**2
    variance = max(parts[0] + parts[1] - parts[2], parts[0], parts[1])
    return float(variance), _freedom(variance, parts, degrees)


def resamples(key: int | str, seeds: int, tasks: int, count: int) -> Resamples:
    """Return the multisets of the crossed bootstrap: one of seeds and one of tasks per resample.

    They are the same for all cells.

    The r-th seeds depend on neither `tasks` nor `count`, the r-th tasks on neither `seeds` nor
    `count`. `key` is the study's name; the others are numbers.

    Reference: Owen 2007, "The pigeonhole bootstrap", doi:10.1214/07-AOAS122.
    """

    def draws(offset: int, size: int) -> Integers:
        blocks = [uniforms(key, "bootstrap", 2 * r + offset, size) for r in range(count)]
        return (np.stack(blocks) * size).astype(np.int64)

    return Resamples(draws(0, seeds), draws(1, tasks))


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
    x = _checked(losses, scale)
    drawn = (draws.seeds.shape[1], draws.tasks.shape[1])
    if x.shape not in (drawn, (1, drawn[1])):
        raise ValueError(
            f"resamples are of {drawn} (seeds, tasks), losses of {x.shape}; draw them for the same"
        )
    margins = [axis for axis in (0, 1) if x.shape[axis] > 1]
    sizes = np.array([x.shape[axis] for axis in margins])
    resampled = [_resampled(statistics, x, draws[axis], axis) for axis in margins]
    found = []
    for n, statistic in enumerate(statistics):
        errors = np.array([_spread(estimates[n], scale) for estimates in resampled])
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


def probability_of_improvement(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return P(loss_a < loss_b) over matched (seed, task) pairs, with its crossed t interval.

    Ties count one half; the interval is computed on the logit scale.

    Losses are ``(seed, task)``; b may be ``(1, task)``, a seedless baseline, and is then matched
    with each seed. If all pairs agree, nothing varies, and the far bound is Clopper and Pearson's
    for as many trials as there are seeds.
    """
    x, y = _matched(a, b)
    score = np.where(x == y, 0.5, np.where(x < y, 1.0, 0.0))
    estimate, lower, upper = mean_interval(score, confidence, scale="logit")
    if 0 < estimate < 1:
        return Interval(estimate, lower, upper)
    trials = len(x) if len(x) > 1 else x.size
    edge = ((1 - confidence) / 2) ** (1 / trials)
    return Interval(estimate, edge * estimate, 1 - edge * (1 - estimate))


def difference_interval(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean of a - b with its crossed t interval; both are finite, as scores are.

    They are matched as in `probability_of_improvement`.
    """
    x, y = _matched(a, b)
    return mean_interval(x - y, confidence, scale="raw")


def ratio_interval(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the geometric mean of a / b with its crossed t interval; both are finite.

        exp(mean(log a - log b))

    Values below `ROUNDING` count as `ROUNDING`. They are matched as in
    `probability_of_improvement`.
    """
    x, y = (np.log(np.maximum(values, ROUNDING)) for values in _matched(a, b))
    with np.errstate(over="ignore"):
        return Interval(*np.exp(mean_interval(x - y, confidence, scale="raw")).tolist())


def detectable(a: ArrayLike, b: ArrayLike, confidence: float = 0.95, power: float = 0.8) -> float:
    """Return the mean difference that a design would detect with a given probability.

    That is (t_confidence + t_power) standard errors, with the interval's degrees of freedom. Losses
    or scores are matched as in `probability_of_improvement`.
    """
    x, y = _matched(a, b)
    variance, freedom = _variance(x - y, slope=1.0)
    return float(
        (stdtrit(freedom, (1 + confidence) / 2) + stdtrit(freedom, power)) * np.sqrt(variance)
    )


def ranks(values: Sequence[ArrayLike], draws: Resamples) -> Floats:
    """Return the rank of each contender's mean in every resample, ``(resample, contender)``.

    Rank 1 has the lowest mean; ties share their mean rank. Seeds and tasks are resampled together,
    identically for all.

    Args:
        values: ``(seed, task)`` of each contender; a seedless one has one row.
        draws: From `resamples`.
    """
    means = np.stack([_resampled_means(np.asarray(value), draws) for value in values], axis=-1)
    return ranked(means)


def ranked(means: ArrayLike) -> Floats:
    """Return the rank of each number along the last axis, ``(..., contender)``.

    The lowest has rank 1; ties share their mean rank.
    """
    values = np.asarray(means)
    less = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    return less + (1 + equal) / 2


def _resampled_means(values: Floats, draws: Resamples) -> Floats:
    """Return the mean of each resample, ``(resample,)``."""
    seeds, tasks = values.shape
    if seeds == 1:
        return _counts(draws.tasks, tasks) @ values[0] / tasks
    weighted = _counts(draws.seeds, seeds) @ values  # (resample, task)
    return (weighted * _counts(draws.tasks, tasks)).sum(-1) / (seeds * tasks)


def _counts(draws: Integers, size: int) -> Integers:
    """Return how often each index is drawn, ``(resample, size)``."""
    return np.stack([np.bincount(draw, minlength=size) for draw in draws])


def _resampled(
    statistics: Sequence[WindowMean], losses: Floats, draws: Integers, axis: int
) -> Floats:
    """Return statistics ``(statistic, resample)`` when only one axis is resampled.

    Axis 0 is the seeds, axis 1 the tasks.
    """
    order = np.argsort(losses, axis=None, kind="stable")
    values, members = losses.ravel()[order], np.unravel_index(order, losses.shape)[axis]
    counts = _counts(draws, losses.shape[axis]).astype(np.int32)
    rows = max(1, CHUNK // losses.size)
    found = []
    for i in range(0, len(counts), rows):
        ranks = np.cumsum(np.take(counts[i : i + rows], members, axis=1), axis=1, dtype=np.int32)
        found.append([statistic.of_ranks(values, ranks) for statistic in statistics])
    return np.concatenate(found, axis=1)


def _spread(estimates: Floats, scale: Scale) -> float:
    """Return the standard error from the middle 68% of the resampled estimates.

    It is inf where they are not finite.
    """
    with np.errstate(divide="ignore"):
        values = LINK[scale](estimates)
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
    return np.where(degrees > 0, sums / np.maximum(degrees, 1), 0.0), degrees


def _freedom(variance: float, parts: Floats, degrees: NDArray[np.number]) -> float:
    """Return Satterthwaite's degrees of freedom, V^2 / sum(part^2 / degrees); 0 if there are none."""
    known = degrees > 0
    if not known.any():
        return 0.0
    if not 0 < variance < np.inf:
        return 1.0
    return float(variance**2 / (parts[known] ** 2 / degrees[known]).sum())


def _t_interval(
    estimate: float, variance: float, freedom: float, confidence: float, scale: Scale
) -> Interval:
    """Return estimate -+ t sqrt(variance) on its scale."""
    if not (freedom and np.isfinite(estimate)):
        return Interval(estimate, np.nan, np.nan)
    half = float(stdtrit(freedom, (1 + confidence) / 2) * np.sqrt(variance))
    return Interval(estimate, _moved(estimate, -half, scale), _moved(estimate, half, scale))


def _moved(estimate: float, step: float, scale: Scale) -> float:
    """Return the estimate shifted by a step on its scale."""
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # up to inf; nan for an estimate of 0 moved by inf
        if scale == "raw":
            return estimate + step
        if scale == "log":
            return float(estimate * np.exp(step))
        return float(estimate / (estimate + (1 - estimate) * np.exp(-step)))


def with_inf_for_nan(losses: ArrayLike) -> Floats:
    """Return the losses as float64 with nan as inf: a NaN loss counts as the worst."""
    x = np.asarray(losses, dtype=np.float64)
    return np.where(np.isnan(x), np.inf, x)


def _checked(losses: ArrayLike, scale: Scale) -> Floats:
    """Return the losses ``(seed, task)`` with nan as inf; raise ValueError if they are invalid."""
    x = with_inf_for_nan(losses)
    if x.ndim != 2 or x.size == 0:
        raise ValueError(
            f"losses must be a (seed, task) array with at least one of each; got shape {x.shape}"
        )
    low, high = DOMAIN[scale]
    if x.min() < low or x.max() > high:
        raise ValueError(
            f"values on the {scale} scale must lie in [{low}, {high}]; got {x.min()} to {x.max()}"
        )
    return x


def _matched(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    """Return losses a ``(seed, task)`` and b, of the same shape or of one seed.

    Raises ValueError where they do not match.
    """
    x, y = with_inf_for_nan(a), with_inf_for_nan(b)
    if x.ndim != 2 or y.shape not in (x.shape, (1, x.shape[1])):
        raise ValueError(
            f"b must have the (seed, task) shape of a, or one seed; got a of {x.shape}, b of {y.shape}"
        )
    return x, y
