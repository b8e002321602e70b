"""Statistics of each cell, protocol, step, region and update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis.statistics import (
    Resamples,
    crossed_intervals,
    iqm,
    mean_interval,
    median,
    p95,
    resamples,
)
from metabench.records.records import REGIONS, CellRecord
from metabench.study.config import StudyConfig

DIVERGENCE = 10
"""An adaptation has diverged if its loss exceeds this many times the limit's reference (see
`Study.limit`).
"""


@dataclass(frozen=True)
class Study:
    """Everything measured in a study.

    Args:
        config: The study.
        cells: A record for each cell.
        baselines: Losses ``(region, task)`` of the seedless baselines by ``test/PROTOCOL/NAME``.
        contents: A digest of all this.
    """

    config: StudyConfig
    cells: list[CellRecord]
    baselines: dict[str, NDArray[Any]]
    contents: str

    def limit(self, protocol: str) -> NDArray[np.float64]:
        """Return the loss above which an adaptation counts as diverged, ``(region, task)``.

        Ten times the larger of two losses of the zero predictor: on this task, and on average over
        tasks. The first alone would call a slow adaptation to a nearly flat wave diverged.
        """
        zero = self.baselines[f"test/{protocol}/zero"].astype(np.float64)
        return DIVERGENCE * np.maximum(zero, zero.mean(-1, keepdims=True))

    def draws(self) -> Resamples:
        """Return the resamples of seeds and tasks, the same for all cells."""
        config = self.config
        return resamples(
            config.study, config.seeds, config.evaluation.tasks, config.statistics.resamples
        )

    def baseline_losses(self, protocol: str) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Yield name and losses ``(region, 1, task)`` of each seedless baseline."""
        prefix = f"test/{protocol}/"
        for key in sorted(self.baselines):
            if key.startswith(prefix):
                yield key.removeprefix(prefix), self.baselines[key].astype(np.float64)[:, None]


def summarize(
    losses: NDArray[np.float64], limit: NDArray[np.float64], confidence: float
) -> dict[str, float]:
    """Return the statistics of one row: losses ``(seed, task)`` against divergence limits
    ``(task,)``.
    """
    diverged = ~(losses <= limit)
    counted = np.where(diverged, np.inf, losses)
    finite = np.isfinite(losses)
    mean = mean_interval(losses, confidence)
    return {
        "mean": mean.estimate,
        "mean_lower": mean.lower,
        "mean_upper": mean.upper,
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
    """Return the intervals of median and IQM, which a protocol's last update has besides."""
    counted = np.where(losses <= limit, losses, np.inf)
    of_median, of_iqm = crossed_intervals((median, iqm), counted, draws, confidence)
    return {
        "median_lower": of_median.lower,
        "median_upper": of_median.upper,
        "iqm_lower": of_iqm.lower,
        "iqm_upper": of_iqm.upper,
    }


def adaptation(study: Study) -> pd.DataFrame:
    """Return the table of every cell, protocol, step, region and update."""
    draws = study.draws()
    rows = [row for record in study.cells for row in _cell_rows(study, record, draws)]
    rows += [
        row for protocol in study.config.protocols for row in _baseline_rows(study, protocol, draws)
    ]
    order = ["algorithm", "cell", "role", "protocol", "step", "region", "update"]
    return pd.DataFrame(rows).sort_values(order, ignore_index=True)


def _cell_rows(study: Study, record: CellRecord, draws: Resamples) -> Iterator[dict[str, Any]]:
    for protocol in study.config.protocols:
        known: list[
            tuple[NDArray[np.float64], list[dict[str, Any]]]
        ] = []  # a cell's own step may be the common one
        for step in record.steps(protocol):
            losses = record.losses(protocol, step)  # (region, update, run, task)
            rows = next(
                (rows for other, rows in known if np.array_equal(other, losses, equal_nan=True)),
                None,
            )
            if rows is None:
                rows = _statistics(study, protocol, losses, range(losses.shape[1]), draws)
                known.append((losses, rows))
            yield from ({**record.head, "protocol": protocol, "step": step, **row} for row in rows)


def _baseline_rows(study: Study, protocol: str, draws: Resamples) -> Iterator[dict[str, Any]]:
    last = study.config.protocols[protocol].updates
    for name, losses in study.baseline_losses(protocol):
        head = {
            "algorithm": name,
            "cell": "-",
            "role": "baseline",
            "protocol": protocol,
            "step": "none",
        }
        rows = _statistics(study, protocol, losses[:, None], [last], draws)
        yield from ({**head, **row, "seeds": 0} for row in rows)


def _statistics(
    study: Study,
    protocol: str,
    losses: NDArray[np.float64],
    updates: Sequence[int],
    draws: Resamples,
) -> list[dict[str, Any]]:
    """Return the statistics of losses ``(region, update, run, task)`` in each region and update,
    named as `updates`.
    """
    confidence, limits = study.config.statistics.confidence, study.limit(protocol)
    rows = []
    for (region, n), x in ((place, losses[place]) for place in np.ndindex(losses.shape[:2])):
        found = summarize(x, limits[region], confidence)
        if n == len(updates) - 1:
            found |= final_intervals(x, limits[region], draws, confidence)
        seeds, tasks = x.shape
        rows.append(
            {
                "region": REGIONS[region],
                "update": updates[n],
                **found,
                "seeds": seeds,
                "tasks": tasks,
            }
        )
    return rows


def final(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `adaptation` at each protocol's last update, over the whole grid."""
    last = table.groupby("protocol")["update"].transform("max")
    return table[(table["update"] == last) & (table["region"] == "all")]
