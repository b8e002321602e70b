"""Statistics of each cell, protocol, step, region and update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis.columns import Column
from metabench.analysis.measured import Study
from metabench.analysis.statistics.estimates import iqm, median, p95
from metabench.analysis.statistics.intervals import (
    crossed_intervals,
    determined,
    mean_interval,
)
from metabench.analysis.statistics.losses import Floats
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
    statistics = Statistics(study.draws, study.config.statistics.confidence)
    rows: Rows = []
    for record in study.cells:
        rows += _cell_rows(study, record, statistics)
    for protocol in study.protocols:
        rows += _entrant_rows(study, protocol, statistics)
    order = ["algorithm", "cell", "role", "protocol", "step", "region", "update"]
    return pd.DataFrame(rows).sort_values(order, ignore_index=True)


@dataclass(frozen=True)
class Statistics:
    """Statistics of losses. Equal losses need them only once.

    Protocols of different grids may be equal, a cell's own step may be the common one, and a
    baseline takes no steps: a quarter of an atlas's losses are equal to others.

    Args:
        draws: Resamples of seeds and tasks.
        confidence: Level of the intervals.
        known: The statistics so far.
    """

    draws: Resamples
    confidence: float
    known: dict[Any, dict[str, float]] = field(default_factory=dict)

    def of(self, losses: Floats, zero: Floats, limit: Floats, last: bool) -> dict[str, float]:
        """Return the statistics of one row.

        Args:
            losses: ``(seed, task)``.
            zero: Losses of predicting zero, ``(task,)``.
            limit: The loss above which an adaptation has diverged, ``(task,)``.
            last: Whether it is a protocol's last update.
        """
        content = b"".join(part.tobytes() for part in (losses, zero, limit))
        key = losses.shape, last, sha256(content).digest()
        if key not in self.known:
            found = of_scores(scores(losses, zero), self.confidence)
            found |= summarize(losses, limit, self.confidence)
            if last:
                found |= final_intervals(losses, limit, self.draws, self.confidence)
            self.known[key] = found
        return self.known[key]


def _cell_rows(
    study: Study, record: CellRecord, statistics: Statistics
) -> Iterator[dict[str, Any]]:
    for protocol in study.protocols:
        updates = study.protocols[protocol].measured
        for step in record.steps(protocol):
            head = {**record.head, "protocol": protocol, "step": step}
            losses = record.losses(protocol, step)  # (region, update, run, task)
            for row in _rows(study, protocol, losses, updates, statistics):
                yield {**head, **row}


def _entrant_rows(study: Study, protocol: str, statistics: Statistics) -> Iterator[dict[str, Any]]:
    last = study.protocols[protocol].updates
    for head, seeds, losses in study.entrants(protocol):
        for row in _rows(study, protocol, losses[:, None], [last], statistics):
            yield {**head, **row, "seeds": len(seeds)}


def _rows(
    study: Study, protocol: str, losses: Floats, updates: Sequence[int], statistics: Statistics
) -> Iterator[dict[str, Any]]:
    """Yield a row for each region and update.

    Args:
        study: What was measured.
        protocol: The protocol.
        losses: ``(region, update, run, task)``.
        updates: The number of each update.
        statistics: The statistics of a row.
    """
    limits, zero = study.limit(protocol), study.baselines[f"test/{protocol}/zero"]
    regions, count, seeds, tasks = losses.shape
    for region, n in np.ndindex(regions, count):
        place = {"region": study.regions[protocol][region], "update": updates[n]}
        last = n == count - 1
        found = statistics.of(losses[region, n], zero[region], limits[region], last)
        yield {**place, **found, "seeds": seeds, "tasks": tasks}


def of_scores(found: Floats, confidence: float) -> dict[str, float]:
    """Return the statistics of the scores of one row, ``(seed, task)``."""
    score = mean_interval(found, confidence, scale="logit")
    return {
        "score": score.estimate,
        "score_lower": score.lower,
        "score_upper": score.upper,
        "failed": float((found == 1).mean()),
    }


def summarize(losses: Floats, limit: Floats, confidence: float) -> dict[str, float]:
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
    losses: Floats, limit: Floats, draws: Resamples, confidence: float
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
