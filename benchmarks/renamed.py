"""Rename cells in tables from digests to words, and show that nothing else changed.

Until November 2026 a cell was named by eight digits of a digest of its content. References that
have not been recomputed since were renamed with this program:

    python benchmarks/renamed.py rename config/maml.yaml OLD/tables NEW/tables
    python benchmarks/renamed.py compare config/flux.yaml OLD/tables results/flux/tables

`compare` reports for each table whether every value is the same, given the names.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path

import pandas as pd

from metabench.analysis import frames
from metabench.records import manifests
from metabench.study import config
from metabench.study.cells import Cell
from metabench.study.jobs import Study

NAMES = ("cell", "cell_a", "cell_b")
DEFAULTS = {"meta_optimizer": "sgd", "meta_schedule": "constant", "inner_optimizer": "sgd"}
"""Hyperparameters that were empty fields when they had these values."""

ORDER = {
    "adaptation.csv": "algorithm cell role protocol step region update",
    "cells.csv": "algorithm cell",
    "comparisons.csv": "role protocol algorithm_a cell_a step_a algorithm_b cell_b step_b region",
    "curves.parquet": "algorithm cell seed protocol step step_size region update",
    "history.csv": "algorithm cell seed meta_iteration",
    "leaderboard.csv": "protocol mean median algorithm cell step",
    "points.csv": "protocol x",
    "runs.csv": "algorithm cell seed",
    "selection.csv": "algorithm protocol step cell",
    "showcase.csv": "algorithm cell seed protocol x",
    "tasks.parquet": "algorithm cell seed protocol step region task",
    "tuning.csv": "algorithm cell seed protocol step_size",
}
"""The columns by which the rows of each table are sorted."""


def digits(cell: Cell) -> str:
    """Return the former name of a cell."""
    given = {
        name: value
        for name, value in cell.hyperparameters.model_dump().items()
        if value is not None and DEFAULTS.get(name) != value
    }
    content = [cell.algorithm, given, cell.meta_iterations]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:8]


def renamed(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with cells named in words and defaults written out."""
    words = {digits(cell): cell.name for cell in study.cells} | {"-": "-"}
    assert len(words) == len(study.cells) + 1, "two cells were called alike"
    found = table.copy()
    for column in NAMES:
        if column in found:
            found[column] = found[column].astype(str).map(words)
            assert found[column].notna().all(), "a cell is not in the study"
    reads = {cell.algorithm: type(cell.hyperparameters).model_fields for cell in study.cells}
    for column, value in DEFAULTS.items():
        if column in found:
            has = found["algorithm"].map(lambda name, c=column: c in reads.get(name, ()))
            found[column] = found[column].where(found[column].notna() | ~has, value)
    return found


def ordered(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its rows in order."""
    return table.sort_values(ORDER[name].split(), kind="stable", ignore_index=True)


def rename(study: Study, old: Path, new: Path) -> None:
    """Write the tables of a folder with cells named in words, with their former manifest."""
    made = {
        key: value for key, value in manifests.read(old).items() if key not in ("files", "content")
    }
    for name in ORDER:
        table = ordered(name, renamed(study, frames.read(old, name)))
        for column in table.select_dtypes("category"):
            table[column] = table[column].astype(str)
        frames.write(table, new / name)
    manifests.write(new, list(ORDER), {**made, "renamed": "cells were named by digits"})


def compare(study: Study, old: Path, new: Path) -> int:
    """Print which tables have different values than before; return how many."""
    different = 0
    for name in ORDER:
        before = ordered(name, renamed(study, frames.read(old, name)))
        after = ordered(name, frames.read(new, name))
        assert set(before) == set(after) and len(before) == len(after), name
        wrong = [column for column in before if not _same(before[column], after[column])]
        different += bool(wrong)
        print(f"{name}: {len(before)} rows, {'the same' if not wrong else f'others in {wrong}'}")
    return different


def _same(before: pd.Series, after: pd.Series) -> bool:
    """Return whether two columns have the same values, missing ones included."""
    before, after = (c.astype(str) if c.dtype == "category" else c for c in (before, after))
    return bool(((before == after) | (before.isna() & after.isna())).all())


if __name__ == "__main__":
    what, file, old, new = sys.argv[1:]
    whole = Study(config.load(file)).check()
    if what == "rename":
        rename(whole, Path(old), Path(new))
    sys.exit(compare(whole, Path(old), Path(new)))
