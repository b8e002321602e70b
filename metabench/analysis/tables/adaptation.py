"""Statistics of each cell, protocol, step, region and update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis.columns import Column
from metabench.analysis.measured import Study
from metabench.analysis.statistics.estimates import iqm, median, p95
from metabench.analysis.statistics.intervals import (
    crossed_intervals,
    determined,
    mean_interval,
)
from metabench.analysis.statistics.resampling import Resamples
from metabench.learning.scores import scores
from metabench.records.measured import CellRecord

NAME = "adaptation.csv"
CAPTION = """
Score and loss of every cell, protocol, adaptation step, region and update over all seeds and test
tasks: mean score with its interval and the share that failed; mean loss with its interval, median,
interquartile mean, 95th percentile, share of diverged adaptations. The last update also has
intervals of the median and the interquartile mean.
"""
COLUMNS: dict[str, Column] = {}

Rows = list[dict[str, Any]]


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    draws = study.draws
    rows: Rows = []
    for record in study.cells:
        rows += _cell_rows(study, record, draws)
    for protocol in study.protocols:
        rows += _entrant_rows(study, protocol, draws)
    order = ["algorithm", "cell", "role", "protocol", "step", "region", "update"]
    return pd.DataFrame(rows).sort_values(order, ignore_index=True)


def _cell_rows(study: Study, record: CellRecord, draws: Resamples) -> Iterator[dict[str, Any]]:
    for protocol in study.protocols:
        # A cell's own step may be the common one: equal losses need their statistics only once.
        known: list[tuple[NDArray[np.float64], Rows]] = []
        for step in record.steps(protocol):
            losses = record.losses(protocol, step)  # (region, update, run, task)
            rows = _of_equal(losses, known)
            if rows is None:
                measured = study.protocols[protocol].measured
                rows = _statistics(study, protocol, losses, measured, draws)
                known.append((losses, rows))
            for row in rows:
                yield {**record.head, "protocol": protocol, "step": step, **row}


def _of_equal(
    losses: NDArray[np.float64], known: list[tuple[NDArray[np.float64], Rows]]
) -> Rows | None:
    """Return the existing rows of equal losses, if there are any."""
    for other, rows in known:
        if np.array_equal(other, losses, equal_nan=True):
            return rows
    return None


def _entrant_rows(study: Study, protocol: str, draws: Resamples) -> Iterator[dict[str, Any]]:
    last = study.protocols[protocol].updates
    for head, seeds, losses in study.entrants(protocol):
        for row in _statistics(study, protocol, losses[:, None], [last], draws):
            yield {**head, **row, "seeds": len(seeds)}


def _statistics(
    study: Study,
    protocol: str,
    losses: NDArray[np.float64],
    updates: Sequence[int],
    draws: Resamples,
) -> Rows:
    """Return a row of statistics for each region and update.

    Args:
        study: What was measured.
        protocol: The protocol.
        losses: ``(region, update, run, task)``.
        updates: The number of each update.
        draws: Resamples of seeds and tasks.
    """
    confidence, limits = study.config.statistics.confidence, study.limit(protocol)
    regions, count, seeds, tasks = losses.shape
    zero = study.baselines[f"test/{protocol}/zero"]
    rows = []
    for region, n in np.ndindex(regions, count):
        here = losses[region, n]
        found = of_scores(scores(here, zero[region]), confidence)
        found |= summarize(here, limits[region], confidence)
        if n == count - 1:
            found |= final_intervals(here, limits[region], draws, confidence)
        place = {"region": study.regions[protocol][region], "update": updates[n]}
        rows.append({**place, **found, "seeds": seeds, "tasks": tasks})
    return rows


def of_scores(found: NDArray[np.float64], confidence: float) -> dict[str, float]:
    """Return the statistics of the scores of one row, ``(seed, task)``."""
    score = mean_interval(found, confidence, scale="logit")
    return {
        "score": score.estimate,
        "score_lower": score.lower,
        "score_upper": score.upper,
        "failed": float((found == 1).mean()),
    }


def summarize(
    losses: NDArray[np.float64], limit: NDArray[np.float64], confidence: float
) -> dict[str, float]:
    """Return the statistics of one row.

    Args:
        losses: ``(seed, task)``.
        limit: The loss above which an adaptation has diverged, ``(task,)``.
        confidence: Level of the mean's interval. It exists only if no adaptation diverged and the
            losses determine it.
    """
    diverged = ~(losses <= limit)
    counted = np.where(diverged, np.inf, losses)
    finite = np.isfinite(losses)
    mean = mean_interval(losses, confidence)
    holds = not diverged.any() and determined(losses)
    return {
        "mean": mean.estimate,
        "mean_lower": mean.lower if holds else np.nan,
        "mean_upper": mean.upper if holds else np.nan,
        "mean_finite": float(losses[finite].mean()) if finite.any() else np.nan,
        "finite": int(finite.sum()),
        "median": median(counted),
        "iqm": iqm(counted),
        "p95": p95(counted),
        "diverged_share": float(diverged.mean()),
    }


def final_intervals(
    losses: NDArray[np.float64], limit: NDArray[np.float64], draws: Resamples, confidence: float
) -> dict[str, float]:
    """Return the intervals of median and IQM, which exist only at a protocol's last update."""
    counted = np.where(losses <= limit, losses, np.inf)
    of_median, of_iqm = crossed_intervals((median, iqm), counted, draws, confidence)
    return {
        "median_lower": of_median.lower,
        "median_upper": of_median.upper,
        "iqm_lower": of_iqm.lower,
        "iqm_upper": of_iqm.upper,
    }
