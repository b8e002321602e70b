"""The validation results of each candidate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis import frames
from metabench.analysis.columns import Column
from metabench.analysis.measured import Study
from metabench.analysis.selection import Selection, algorithms, candidates, selection_of

NAME = "selection.csv"
CAPTION = """
Results on the validation bank: the best number of updates of each candidate and its score then,
which candidate is selected, how often under resampled seeds, whether it lies at an edge of the
grid, and a test score that is free of selection bias.
"""
COLUMNS: dict[str, Column] = {}

SIZES = ("inner_step_size", "meta_step_size")
"""The hyperparameters in which a grid may be too narrow."""


def build(study: Study) -> pd.DataFrame:
    """Return the table: a row for each candidate, protocol and step."""
    rows: list[dict[str, Any]] = []
    for algorithm in algorithms(study):
        first, *_ = candidates(study, algorithm)
        for protocol in study.protocols:
            for step in first.steps(protocol):
                rows += _rows(study, study.once(selection_of, algorithm, protocol, step))
    order = ["algorithm", "protocol", "step", "cell"]
    return pd.DataFrame(rows).sort_values(order, ignore_index=True)


def _rows(study: Study, found: Selection) -> Iterator[dict[str, Any]]:
    """Yield a row for each candidate under one protocol and step."""
    frequency = found.frequency(study.draws.seeds)
    winner = found.winner
    for n, record in enumerate(found.records):
        yield {
            **record.head,
            "protocol": found.protocol,
            "step": found.step,
            "updates": int(found.updates[n]),
            "validation_score": float(found.scores[n]),
            "selected": n == winner,
            "frequency": frequency[n],
            "on_edge": edges(found) if n == winner else "",
            "held_out_score": found.held_out_score if n == winner else np.nan,
        }


def edges(found: Selection) -> str:
    """Name the step sizes of the winner that are the smallest or largest of three or more."""
    return " ".join(size for size in SIZES if _on_edge(found, size))


def _on_edge(found: Selection, size: str) -> bool:
    values = [getattr(record.cell.hyperparameters, size, 0.0) for record in found.records]
    if len(set(values)) < 3:
        return False
    return values[found.winner] in (min(values), max(values))


def edge_warnings(folder: Path) -> list[str]:
    """Return a line for each selected cell at an edge of its grid: a better one may lie outside.

    Args:
        folder: The study's tables.
    """
    chosen = frames.read(folder, NAME)
    return [
        f"warning: {row.algorithm} under {row.protocol} ({row.step} step) selects {row.cell}, on "
        f"the edge of its grid in {str(row.on_edge).replace(' ', ' and ')}: a better cell may lie "
        "outside"
        for row in chosen[chosen["on_edge"].notna()].itertuples()
    ]
