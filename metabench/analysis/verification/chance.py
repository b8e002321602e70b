"""The third level: losses differ no more than between two trainings with different random numbers.

Each cell and protocol is a test of its losses, and each cell a test of how many of its runs
diverged. All tests of a study share `ERROR`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from scipy.stats import binomtest

from metabench.analysis.statistics.intervals import Interval, mean_interval
from metabench.analysis.statistics.losses import Floats
from metabench.analysis.verification.distances import TOLERANCE, logarithms
from metabench.analysis.verification.folders import CELL, ROW, Tables
from metabench.learning.randomness import uniforms

ERROR = 0.05
"""The largest probability that a consistent study fails, over all its tests together."""

POWER = 0.8
"""The probability with which a detectable change is detected."""

DRAWS = 20_000
"""Pairs of trainings that are simulated to determine that change."""

Bools = NDArray[np.bool_]

COLUMNS = [
    *ROW,
    "factor",
    "lower",
    "upper",
    "detectable",
    "diverged",
    "p_value",
    "consistent",
]


def compare_losses(fresh: Tables, reference: Tables) -> tuple[pd.DataFrame, int]:
    """Return the test of each cell and protocol, over the whole grid, and how many tests there are.

    Columns in addition to those of `ROW`:

    - `factor`, `lower`, `upper`: `factor_interval` of the runs that diverged on neither side;
    - `detectable`: `detectable_factor` of the reference's runs;
    - `diverged`: how many more runs diverged than in the reference;
    - `p_value`: `divergence_p_value` of that;
    - `consistent`: whether the interval overlaps the tolerance and the p value is not too low.

    Baselines without seeds have no rows: they have no noise to be consistent with.
    """
    status, known_status = _diverged(fresh), _diverged(reference)
    losses, known = _log_losses(fresh), _log_losses(reference)
    rows = [row for row in known if row[:2] in known_status]
    tests = len(rows) + len(known_status)
    found = []
    for row in rows:
        cell = row[:2]
        result = _compare(losses[row], known[row], status[cell], known_status[cell], tests)
        found.append((*row, *result))
    return pd.DataFrame(found, columns=COLUMNS).set_index(ROW), tests


def _compare(
    losses: Floats, known: Floats, diverged: Bools, known_diverged: Bools, tests: int
) -> tuple[Any, ...]:
    """Return the columns of one row of `compare_losses`, from its log losses ``(run, task)``."""
    # A diverged run has no loss to compare. The number of such runs has its own test.
    paired = ~(diverged | known_diverged)
    interval = factor_interval(losses[paired], known[paired], tests)
    # The interval need not contain 1: a difference within the tolerance is only rounding.
    near = interval.lower <= np.exp(TOLERANCE) and interval.upper >= np.exp(-TOLERANCE)
    # A single pair shows no variance, so it is evidence only where all other runs diverged.
    shown = paired.sum() > 1 or not paired.all()
    more = int(diverged.sum()) - int(known_diverged.sum())
    p_value = divergence_p_value(more, len(known_diverged))
    return (
        *interval,
        detectable_factor(known[~known_diverged], tests),
        more,
        p_value,
        bool(near and shown and p_value > ERROR / tests),
    )


def _diverged(tables: Tables) -> dict[tuple[str, ...], Bools]:
    """Return by cell which of its runs diverged, ``(run,)``."""
    cells = tables["runs.csv"].groupby(CELL)
    return {key: (rows["status"] == "diverged").to_numpy() for key, rows in cells}


def _log_losses(tables: Tables) -> dict[tuple[str, ...], Floats]:
    """Return by cell and protocol the log losses over the whole grid, ``(run, task)``."""
    tasks = tables["tasks.parquet"]
    found = {}
    for key, rows in tasks[tasks["region"] == "all"].groupby(ROW, observed=True):
        # `folders.match` has sorted the rows by seed and then by task.
        found[key] = logarithms(rows["loss"]).reshape(rows["seed"].nunique(), -1)
    return found


def factor_interval(a: Floats, b: Floats, tests: int) -> Interval:
    """Return exp(mean(a - b)) of log losses ``(run, task)`` with its interval over both margins.

    The error of the interval is `ERROR` / tests (Bonferroni). Fewer than two runs show no variance:
    0 to inf.
    """
    if len(a) == 0:
        return Interval(np.nan, 0, np.inf)
    if len(a) == 1:
        return Interval(float(np.exp(np.mean(a - b))), 0, np.inf)
    estimate, lower, upper = mean_interval(a - b, 1 - ERROR / tests, scale="raw")
    return Interval(_exp(estimate), _exp(lower), _exp(upper))


def detectable_factor(losses: Floats, tests: int) -> float:
    """Return the factor on the losses of a second training that is detected with `POWER`.

        exp(tolerance + d sqrt(2 / S) s)

    s is the standard deviation over runs of the mean log loss; both trainings have that noise, and
    tasks, the same for both, have none. d is `detectable_distance`. The factor is nan for fewer
    than two runs.

    Args:
        losses: Log losses of the reference's runs ``(run, task)``.
        tests: How many tests share `ERROR`.
    """
    runs = len(losses)
    if runs < 2:
        return np.nan
    noise = losses.mean(1).std(ddof=1) * np.sqrt(2 / runs)
    return _exp(TOLERANCE + detectable_distance(runs, tests) * noise)


@cache
def detectable_distance(runs: int, tests: int) -> float:
    """Return the size of a detectable change in standard errors of the reference's runs.

    It is the quantile `POWER`, over `DRAWS` pairs of trainings a and b with standard normal noise,
    of the smallest distance that is detected in that pair, t being the bound of `factor_interval`:

        (t se(b - a) - mean(b - a)) / (sqrt(2 / S) s(a))
    """
    bound = stdtrit(runs - 1, 1 - ERROR / tests / 2)
    # Addressed random numbers give the same detectable factor on every machine.
    draws = uniforms("verification", "bootstrap", 0, 2 * DRAWS * runs)
    a, b = ndtri(draws).reshape(2, DRAWS, runs)
    detected = bound * (b - a).std(1, ddof=1) - np.sqrt(runs) * (b - a).mean(1)
    return float(np.quantile(detected / (np.sqrt(2) * a.std(1, ddof=1)), POWER))


def divergence_p_value(more: int, runs: int) -> float:
    """Return the two-sided p value of `more` diverged runs than in the reference, of `runs` each.

    If runs of both trainings diverge with the same probability, the difference varies most when
    that probability is one half. It is then Binomial(2 runs, 1/2) - runs, whose tails bound those
    of every other probability.
    """
    return float(binomtest(runs + more, 2 * runs).pvalue)


def detectable_runs(runs: int, tests: int) -> int | None:
    """Return the detectable change in the number of diverged runs; None if there is none."""
    for more in range(runs + 1):
        if divergence_p_value(more, runs) <= ERROR / tests:
            return more
    return None


def _exp(value: float) -> float:
    # Two runs alone give bounds beyond all numbers.
    with np.errstate(over="ignore"):
        return float(np.exp(value))
