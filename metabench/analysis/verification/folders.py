"""Match the tables of two folders row by row, or raise an error that says why they do not match."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from metabench.analysis import frames, reduction
from metabench.analysis.tables import of_folder
from metabench.records import manifests
from metabench.records.artifacts import ArtifactError

CELL = ["algorithm", "cell"]
ROW = [*CELL, "protocol"]

# runs.csv comes first: where it differs, the studies have different cells or seeds, and an error
# about it is easier to understand than one about any other table.
KEYS = {
    "runs.csv": [*CELL, "seed"],
    "history.csv": [*CELL, "seed", "meta_iteration"],
    "tuning.csv": [*ROW, "seed", "step_size"],
    "tasks.parquet": [*ROW, "region", "seed", "task"],
    "leaderboard.csv": [*ROW, "step"],
    "adaptation.csv": [*ROW, "step", "region", "update"],
}
"""The tables whose values are compared, and the columns that identify a row of each."""

STABLE = ["score", "score_lower", "score_upper"]
STABLE += ["median", "median_lower", "median_upper", "iqm", "iqm_lower", "iqm_upper"]
"""Statistics that a few losses cannot move, so that rounding does not move them either."""

STATISTICS = [*STABLE, "mean", "p95"]

NUMBERS = {
    "history.csv": ["validation_loss"],
    "tuning.csv": ["validation_loss"],
    "tasks.parquet": ["loss"],
    "leaderboard.csv": STATISTICS,
    "adaptation.csv": STATISTICS,
}
"""The numbers that are compared, table by table."""

Tables = dict[str, pd.DataFrame]
"""Tables by file name."""


@dataclass(frozen=True)
class Pair:
    """Tables of two folders that have the same rows in the same order.

    Args:
        fresh: The tables to be judged.
        reference: The tables of the reference.
        identical: Whether each table has the same content as the reference's: the same bytes or, in
            parquet, at least the same columns, types and values.
        reduced: Whether the compared values are reduced as by `metabench.analysis.reduction`.
    """

    fresh: Tables
    reference: Tables
    identical: dict[str, bool]
    reduced: bool


def match(folder: Path, reference: Path) -> Pair:
    """Read two folders of tables of the same study and seeds, either of them full or reduced.

    Raises:
        ArtifactError: A table is missing, damaged or cannot be read, or the rows do not match.
    """
    digests, known_digests = _digests(folder), _digests(reference)
    names = of_folder(reference)  # which may be older than a table that studies have by now
    identical = {name: bool(digests[name] & known_digests[name]) for name in names}
    reduced = bool(reduction.made(folder) or reduction.made(reference))
    fresh, known = {name: _read(folder, name) for name in names}, {}
    for name in dict.fromkeys((*KEYS, *names)):
        if identical[name]:
            # The reference was reduced from this very file, so nothing need be lost to rounding.
            known[name] = fresh[name]
            continue
        known[name] = _read(reference, name)
        if reduced:
            fresh[name] = reduction.thin(name, fresh[name])
            known[name] = reduction.thin(name, known[name])
        _require_same_rows(folder / name, fresh[name], known[name])
    return Pair(fresh, known, identical, reduced and not all(identical.values()))


def _digests(folder: Path) -> Mapping[str, set[str]]:
    """Return the digests of each full table of a folder, or of those behind a reduced folder.

    A table without any is in the other folder alone.
    """
    known = reduction.made(folder) or {name: _known(folder / name) for name in of_folder(folder)}
    return defaultdict(set, known)


def _known(path: Path) -> set[str]:
    """Return the digest of a table's file and, of a parquet table, also that of its content."""
    packed = path.suffix == ".parquet"
    return {_digest(path), *([frames.content_digest(path)] if packed else [])}


def read(folder: Path) -> Tables:
    """Read all tables of a folder, rows in the order of their keys; raise as `match` does."""
    return {name: _read(folder, name) for name in of_folder(folder)}


def _read(folder: Path, name: str) -> pd.DataFrame:
    return _ordered(folder / name, frames.read(folder, name))


def _digest(path: Path) -> str:
    try:
        return manifests.file_digest(path)
    except OSError as error:
        raise ArtifactError(
            f"{path.parent} is not a complete folder of tables: {path.name}: {error.strerror}"
        ) from None


def _ordered(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its rows in the order of their keys and its numbers as float64."""
    if path.name not in KEYS:
        return table
    numbers = dict.fromkeys(NUMBERS.get(path.name, []), np.float64)
    try:
        return table.astype(numbers).sort_values(KEYS[path.name], ignore_index=True)
    except (LookupError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is not a table of a study: {error}") from None


def _require_same_rows(path: Path, table: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Raise an error if the columns or rows of a table differ from the reference's."""
    if list(table) != list(reference):
        columns = ", ".join(map(str, table))
        raise ArtifactError(f"{path} has other columns than the reference: {columns}")
    keys = KEYS.get(path.name)
    if keys is None or table[keys].equals(reference[keys]):
        return
    rows, wanted = _rows(table[keys]), _rows(reference[keys])
    if len(rows) != len(table):
        raise ArtifactError(f"{path} is damaged: {len(table) - len(rows)} rows are repeated")
    faults = [
        *_examples(wanted - rows, "are missing"),
        *_examples(rows - wanted, "are not in the reference"),
    ]
    # Equal sets of rows can still differ in their columns' types: then nothing is wrong.
    if faults:
        raise ArtifactError(
            f"{path} is not of the reference's study and seeds: {'; '.join(faults)}"
        )


def _rows(keys: pd.DataFrame) -> set[tuple[object, ...]]:
    return set(keys.itertuples(index=False, name=None))


def _examples(rows: set[tuple[object, ...]], fault: str) -> list[str]:
    """Return a phrase with the number of rows that have a fault and one of them, if any has."""
    if not rows:
        return []
    example = " ".join(map(str, min(rows)))
    return [f"{len(rows)} rows {fault}, such as {example}"]
