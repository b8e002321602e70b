"""Comparisons of two contenders, matched on seeds and tasks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from metabench.analysis.statistics.intervals import Interval, mean_interval, variance_of_mean
from metabench.analysis.statistics.losses import ROUNDING, Floats, matched


def probability_of_improvement(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return P(loss_a < loss_b) over matched (seed, task) pairs, with its crossed t interval.

    Ties count one half; the interval is computed on the logit scale.

    Losses are ``(seed, task)``; b may be ``(1, task)``, a seedless baseline, and is then matched
    with each seed. If all pairs agree, nothing varies, and the far bound is Clopper and Pearson's
    for as many trials as there are seeds.
    """
    x, y = matched(a, b)
    # inf equals inf, so two diverged runs tie.
    score = np.where(x == y, 0.5, np.where(x < y, 1.0, 0.0))
    estimate, lower, upper = mean_interval(score, confidence, scale="logit")
    if 0 < estimate < 1:
        return Interval(estimate, lower, upper)
    # Tasks of one seed share its training, so only seeds are independent trials.
    trials = len(x) if len(x) > 1 else x.size
    # Clopper and Pearson: with this probability, that many equal outcomes are just possible.
    edge = ((1 - confidence) / 2) ** (1 / trials)
    return Interval(estimate, edge * estimate, 1 - edge * (1 - estimate))


def difference_interval(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean of score a - score b with its crossed interval.

    The t interval of the paired differences, with bounds that move outwards as those of both scores
    do, in proportion to the square of each score's correlation with the difference:

        bound = t bound + r_a^2 move_a - r_b^2 move_b

    A move is the distance from a score's bound on the raw scale to that on the logit scale
    (`mean_interval`), so it knows how skewed the score is. What a and b share cancels; if b does
    not vary, the bounds are those of a, less b. The interval stays within [-1, 1].

    They are matched as in `probability_of_improvement`.
    """
    x, y = matched(a, b)
    estimate, *bounds = mean_interval(x - y, confidence, scale="raw")
    moved = bounds + _moves(x, x - y, confidence) - _moves(y, x - y, confidence)
    lower, upper = np.minimum(bounds[0], moved[0]), np.maximum(bounds[1], moved[1])
    return Interval(estimate, *np.clip([lower, upper], -1, 1).tolist())


def _moves(score: Floats, difference: Floats, confidence: float) -> Floats:
    """Return r^2 times the moves of a score's bounds that belong to a (low, high) difference.

    r is the correlation of the mean score with the mean difference.
    """
    rest = score - difference
    of_score, of_rest, of_difference = (
        variance_of_mean(values, slope=1.0)[0] for values in (score, rest, difference)
    )
    # Since the rest is score - difference, its variance has the covariance in it, twice.
    covariance = (of_score + of_difference - of_rest) / 2
    product = of_score * of_difference
    if product == 0:
        return np.zeros(2)
    plain, skewed = (mean_interval(score, confidence, scale) for scale in ("raw", "logit"))
    moves = np.subtract(skewed[1:], plain[1:])
    share = min(covariance**2 / product, 1.0)
    # A score that falls while the difference rises has its upper bound where that has its lower.
    return share * (moves if covariance > 0 else moves[::-1])


def ratio_interval(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the geometric mean of a / b with its crossed t interval; both are finite.

        exp(mean(log a - log b))

    Values below `ROUNDING` count as `ROUNDING`. They are matched as in
    `probability_of_improvement`.
    """
    x, y = (np.log(np.maximum(values, ROUNDING)) for values in matched(a, b))
    # A bound may exceed every float64; inf is the right value then.
    with np.errstate(over="ignore"):
        return Interval(*np.exp(mean_interval(x - y, confidence, scale="raw")).tolist())


def detectable(a: ArrayLike, b: ArrayLike, confidence: float = 0.95, power: float = 0.8) -> float:
    """Return the mean difference that a design would detect with a given probability.

    That is (t_confidence + t_power) standard errors, with the interval's degrees of freedom. Losses
    or scores are matched as in `probability_of_improvement`.
    """
    x, y = matched(a, b)
    variance, freedom = variance_of_mean(x - y, slope=1.0)
    return float(
        (stdtrit(freedom, (1 + confidence) / 2) + stdtrit(freedom, power)) * np.sqrt(variance)
    )
