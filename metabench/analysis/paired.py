"""Paired comparison of what two studies share, or one study before and after a change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis import frames
from metabench.analysis.columns import judged
from metabench.analysis.reduction import PRECISION, made
from metabench.analysis.statistics.pairs import difference_interval
from metabench.analysis.tables.tasks import NO_SEED
from metabench.learning.scores import scores
from metabench.records import manifests
from metabench.records.artifacts import ArtifactError

COLUMNS = (
    "protocol",
    "pair",
    "algorithm",
    "cell_a",
    "cell_b",
    "score_a",
    "score_b",
    "difference",
    "difference_lower",
    "difference_upper",
    "seeds",
    "tasks",
    "verdict",
)

CONFIDENCE = 0.95
"""Confidence level of the intervals."""

Key = tuple[str, str]
"""Algorithm and cell."""

Losses = dict[Key, pd.DataFrame]
"""Losses of each cell under one protocol: a row for each seed, a column for each task."""


def compare(a: Path, b: Path, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Return the differences between what two folders of tables share, after the last update.

    A pair is the same cell in both (`cell`), or the selected cell of each (`selected`). It is
    matched on the seeds and test tasks that both have, at the step size by which cells are judged.
    Differences are score a - score b: negative where a is better.

    Args:
        a: Folder of one study, or of its tables.
        b: The same for the other study.
        confidence: Confidence level of the intervals.

    Returns:
        Rows of `COLUMNS`: a pair without training seeds has 0 of them; `verdict` is equal (the
        same losses, as far as a reference keeps their digits), better or worse if the interval
        excludes zero, and open if it does not.

    Raises:
        ArtifactError: A table is missing or damaged, or no protocol has the same tasks in both.
    """
    sides = [_Side(tables_of(folder)) for folder in (a, b)]
    shared = [name for name in sides[0].protocols if name in sides[1].protocols]
    tolerance = 2 * PRECISION if any(side.reduced for side in sides) else 0.0
    rows: list[dict[str, Any]] = []
    paired = 0
    for protocol in shared:
        losses = [side.losses(protocol) for side in sides]
        zero = [found[("zero", "-")].loc[NO_SEED] for found in losses]
        tasks = zero[0].index.intersection(zero[1].index)
        if not len(tasks) or not np.allclose(zero[0][tasks], zero[1][tasks], rtol=2 * PRECISION):
            continue
        paired += 1
        for pair, key_a, key_b in _pairs(sides, losses, protocol):
            a_losses, b_losses = _matched(losses[0][key_a], losses[1][key_b])
            found = _difference(a_losses, b_losses, zero[0], confidence)
            if np.allclose(a_losses, b_losses, rtol=tolerance, atol=0, equal_nan=True):
                found["verdict"] = "equal"
            names = {"algorithm": key_a[0], "cell_a": key_a[1], "cell_b": key_b[1]}
            rows.append({"protocol": protocol, "pair": pair, **names, **found})
    if not paired:
        raise ArtifactError(
            f"{a} and {b} have no protocol with the same test tasks: they have "
            f"{', '.join(sides[0].protocols)} and {', '.join(sides[1].protocols)}"
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def tables_of(folder: Path) -> Path:
    """Return the folder of tables that a path means."""
    return folder / "tables" if (folder / "tables").is_dir() else folder


class _Side:
    """The tables of one of two studies."""

    def __init__(self, folder: Path) -> None:
        manifests.read(folder)
        self.reduced = bool(made(folder))
        self.board = judged(frames.read(folder, "leaderboard.csv"))
        table = frames.read(folder, "tasks.parquet")
        self.tasks = table[table["region"] == "all"]

    @property
    def protocols(self) -> list[str]:
        """The protocols by name."""
        return sorted(self.board["protocol"].unique())

    def losses(self, protocol: str) -> Losses:
        """Return the losses of each cell under a protocol."""
        rows = self.tasks[self.tasks["protocol"] == protocol]
        grouped = rows.groupby(["algorithm", "cell"], observed=True)
        return {
            (str(algorithm), str(cell)): part.pivot(index="seed", columns="task", values="loss")
            for (algorithm, cell), part in grouped
        }

    def selected(self, protocol: str) -> Mapping[str, str]:
        """Return the cell that validation selects of each algorithm under a protocol."""
        rows = self.board[
            (self.board["protocol"] == protocol) & self.board["selected"].astype(bool)
        ]
        return dict(zip(rows["algorithm"], rows["cell"], strict=True))


def _pairs(
    sides: list[_Side], losses: list[Losses], protocol: str
) -> Iterator[tuple[str, Key, Key]]:
    """Yield the kind of each pair and its two sides."""
    for key in losses[0]:
        if key in losses[1]:
            yield "cell", key, key
    ours, theirs = (side.selected(protocol) for side in sides)
    for algorithm, cell in ours.items():
        other = theirs.get(algorithm)
        if other is not None and other != cell:
            yield "selected", (algorithm, cell), (algorithm, other)


def _matched(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the losses on the seeds and tasks that both have."""
    seeds, tasks = a.index.intersection(b.index), a.columns.intersection(b.columns)
    return a.loc[seeds, tasks], b.loc[seeds, tasks]


def _difference(
    a: pd.DataFrame, b: pd.DataFrame, zero: pd.Series, confidence: float
) -> dict[str, Any]:
    """Return the scores of a matched pair and their difference."""
    reference = zero[a.columns].to_numpy(np.float64)
    x, y = (scores(side.to_numpy(np.float64), reference) for side in (a, b))
    apart, lower, upper = difference_interval(x, y, confidence)
    verdict = "worse" if lower > 0 else "better" if upper < 0 else "open"
    return {
        "score_a": x.mean(),
        "score_b": y.mean(),
        "difference": apart,
        "difference_lower": lower,
        "difference_upper": upper,
        "seeds": int((a.index != NO_SEED).sum()),
        "tasks": len(a.columns),
        "verdict": verdict,
    }
