"""Two folders of tables, compared at the three levels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from metabench.analysis.verification import chance, folders, rounding
from metabench.analysis.verification.distances import TOLERANCE
from metabench.analysis.verification.folders import ROW

LEVELS = ("identical", "rounding", "consistent")
"""The levels, strictest first."""


@dataclass(frozen=True)
class Verification:
    """The result of a comparison.

    Args:
        files: Whether each table has the reference's content, to the last digit.
        cells: A row for each cell and protocol, as `compare` describes.
        deviations: The deviation of each column from the reference's, as
            `metabench.analysis.verification.rounding.compare_values` describes.
        tests: How many tests share the error of the third level.
        reduced: Whether the reference keeps fewer digits of the values that were compared.
    """

    files: dict[str, bool]
    cells: pd.DataFrame
    deviations: pd.DataFrame
    tests: int
    reduced: bool

    @property
    def reached(self) -> str | None:
        """The strictest level that the whole study reaches."""
        if all(self.files.values()):
            return LEVELS[0]
        return next((level for level in LEVELS[1:] if self.short_of(level).empty), None)

    def reaches(self, level: str) -> bool:
        """Return whether the whole study reaches a level."""
        return self.reached in LEVELS[: LEVELS.index(level) + 1]

    def short_of(self, level: str) -> pd.DataFrame:
        """Return the rows of `cells` that do not reach a level; `identical` is compared by file."""
        # A table belongs to no cell, so `identical` asks a cell only for `rounding`.
        enough = LEVELS[1 : max(LEVELS.index(level), 1) + 1]
        return self.cells[~self.cells["level"].isin(enough)]


def compare(folder: Path, reference: Path) -> Verification:
    """Compare a folder of tables with a reference of the same study and seeds.

    The columns of `Verification.cells` in addition to those that name the row:

    - `level`: the strictest that it reaches, `identical` left out;
    - `runs`: its number of runs;
    - `drifted`: the seeds of those that have drifted apart by rounding;
    - `deviation`: the largest distance to which the tolerance applies;
    - those of `metabench.analysis.verification.chance.compare_losses`.

    Raises:
        ArtifactError: A table is missing or cannot be read, or the folders are not of the same
            study and seeds.
    """
    pair = folders.match(folder, reference)
    runs = rounding.compare_runs(pair.fresh, pair.reference)
    deviations = rounding.compare_values(pair.fresh, pair.reference, runs)
    losses, tests = chance.compare_losses(pair.fresh, pair.reference)
    cells = _cells(runs, deviations).join(losses).reset_index()
    cells.insert(len(ROW), "level", [_level(row) for row in cells.itertuples()])
    return Verification(pair.identical, cells, deviations, tests, pair.reduced)


def _cells(runs: pd.DataFrame, deviations: pd.DataFrame) -> pd.DataFrame:
    """Return the second level's result for each cell and protocol."""
    by_row = runs.groupby(ROW)
    held = deviations[deviations["held"]]
    return pd.DataFrame(
        {
            "runs": by_row.size(),
            "drifted": by_row.apply(_drifted),
            "deviation": held.groupby(ROW)["deviation"].max(),
        }
    )


def _drifted(runs: pd.DataFrame) -> str:
    """Return the seeds of runs that have drifted apart, with spaces between."""
    return " ".join(str(seed) for seed in runs.loc[runs["drifted"], "seed"])


def _level(row: Any) -> str:
    """Return the strictest level that a cell reaches under a protocol; tables are `identical`."""
    # A baseline without seeds has no row in the tests, so `consistent` may be nan.
    consistent = row.consistent is True
    if row.deviation <= TOLERANCE and (consistent or not row.drifted):
        return "rounding"
    return "consistent" if consistent else "none"
