"""Predictions that were made elsewhere: their file, read, checked and put in order.

    bank, protocol, task, point, prediction       a row for each query point of the test bank, and
    seed, bank, protocol, task, point, prediction the same for each seed, where there are seeds

`bank` is the number of the tasks that were asked (`bank_number`): exported questions have it in
every row. An npz file has arrays instead: `PROTOCOL/bank`, that number, and `PROTOCOL/prediction`,
``(task, point)`` or ``(seed, task, point)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from metabench.learning.predictions import BankSettings
from metabench.learning.settings import Protocol
from metabench.records.artifacts import Arrays, ArtifactError, content_digest
from metabench.records.provenance import config_digest

BANK, PROTOCOL, PREDICTION = "bank", "protocol", "prediction"
SEED = "seed"
"""A column that there may be besides."""

COLUMNS = (BANK, PROTOCOL, "task", "point", PREDICTION)

NOT_ASKED = {"updates", "optimizer", "regions"}
"""Keys of a protocol that a method made elsewhere need not follow."""

IN_TASKS = {"domain", "noise", "tasks"}
"""Keys of a protocol that change the task distribution, which contains them."""

Rows = dict[str, NDArray[Any]]
"""Columns of the rows of one protocol."""


class Predictions(NamedTuple):
    """Checked predictions.

    Args:
        seeded: Whether they have seeds: those of the study.
        answers: ``(run, task, point)`` by protocol, float64; one run where there are no seeds.
    """

    seeded: bool
    answers: Arrays

    @property
    def runs(self) -> int:
        """How many seeds they have; 0 if none."""
        return len(next(iter(self.answers.values()))) if self.seeded else 0

    @property
    def digest(self) -> str:
        """A digest of what they say, whatever the order and the format of the file."""
        return content_digest(self.answers)


def bank_number(settings: BankSettings, name: str) -> int:
    """Return the number of the test bank under a protocol, which differs where the tasks do.

    It has nine digits: whatever a method is written in keeps them all, a spreadsheet, R's integers
    and files of numbers included.
    """
    protocol = settings.protocols[name]
    distribution = protocol.distribution(settings.tasks)
    keys = set(Protocol.model_fields) - NOT_ASKED - IN_TASKS
    questions = {
        **protocol.model_dump(mode="json", include=keys),
        "tasks": distribution.model_dump(mode="json", exclude={"training_tasks"}),
        "count": settings.banks.test,
    }
    return 10**8 + int(config_digest(questions), 16) % (9 * 10**8)


def read(path: Path, settings: BankSettings, seeds: int) -> Predictions:
    """Read predictions and check them.

    Args:
        path: A parquet, CSV or npz file.
        settings: What was asked.
        seeds: How many seeds the study has.

    Raises:
        ArtifactError: In one line: the file cannot be read; or a prediction is missing, given twice
            or not finite, belongs to another bank or to a seed that the study does not have.
    """
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        rows = _of_arrays(path) if path.suffix == ".npz" else _of_table(path)
        found = {name: _answers(name, rows, settings, seeds) for name in settings.protocols}
        if len({answers.ndim for answers in found.values()}) > 1:
            raise ValueError("either all protocols have seeds or none has")
    except (OSError, BadZipFile, ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"predictions in {path}: {reason:.300}") from None
    seeded = next(iter(found.values())).ndim == 3
    return Predictions(seeded, found if seeded else {name: y[None] for name, y in found.items()})


def _of_table(path: Path) -> dict[str, Rows]:
    """Return the rows of a parquet or CSV file by protocol."""
    table = _table(path)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(
            f"the columns must be {', '.join(COLUMNS)}, and seed where there are seeds; "
            f"{missing[0]} is missing"
        )
    numbers = [name for name in (*COLUMNS, SEED) if name in table.column_names and name != PROTOCOL]
    columns = {name: _numbers(name, table.column(name)) for name in numbers}
    protocols = table.column(PROTOCOL).cast("string").combine_chunks().dictionary_encode()
    of = protocols.indices.to_numpy(zero_copy_only=False)  # nan where a row has none
    return {
        name: {key: values[of == n] for key, values in columns.items()}
        for n, name in enumerate(protocols.dictionary.to_pylist())
    }


def _numbers(name: str, column: Any) -> NDArray[Any]:
    """Return a column of numbers: whole ones, but for predictions."""
    if name == PREDICTION:
        return np.asarray(column.cast("double").to_numpy())  # nan where a row has none
    if column.null_count:
        raise ValueError(f"every row must have a {name}, and some have none")
    try:
        return np.asarray(column.cast("int64").to_numpy())
    except ValueError as error:
        raise ValueError(f"{name} must be a whole number: {error}") from None


def _table(path: Path) -> Any:
    """Read a parquet or CSV file; R and spreadsheets may have whole numbers as real ones."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path)
    from pyarrow import csv

    types = dict.fromkeys((*COLUMNS, SEED), "double") | {PROTOCOL: "string"}
    plain = csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
    return csv.read_csv(path, convert_options=plain)


def _of_arrays(path: Path) -> dict[str, Rows]:
    """Return the arrays of an npz file as rows by protocol."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    found = {}
    for key, values in arrays.items():
        name, _, kind = key.rpartition("/")
        if kind != PREDICTION:
            continue
        if f"{name}/{BANK}" not in arrays:
            raise ValueError(f"{key} must have its bank beside it, and {name}/{BANK} is missing")
        if values.ndim not in (2, 3):
            raise ValueError(
                f"{key} must be (task, point) or (seed, task, point), got the shape {values.shape}"
            )
        axes = (SEED, "task", "point")[-values.ndim :]
        rows = {axis: at.ravel() for axis, at in zip(axes, np.indices(values.shape), strict=True)}
        found[name] = {**rows, BANK: arrays[f"{name}/{BANK}"], PREDICTION: values.ravel()}
    return found


def _answers(
    name: str, given: Mapping[str, Rows], settings: BankSettings, seeds: int
) -> NDArray[np.float64]:
    """Return the predictions under a protocol, ``(task, point)`` or ``(seed, task, point)``."""
    if name not in given:
        raise ValueError(f"there must be some under every protocol, and {name} is missing")
    rows, bank = given[name], bank_number(settings, name)
    for other in np.unique(rows[BANK]):
        if other != bank:
            raise ValueError(
                f"under protocol {name} they must be of the bank {bank}, the study's, got {other}; "
                f"export it again: metabench bank export"
            )
    sizes = {SEED: seeds} if SEED in rows else {}
    sizes |= {"task": settings.banks.test, "point": settings.points(name)}
    for axis, size in sizes.items():
        for wrong in rows[axis][(rows[axis] < 0) | (rows[axis] >= size)]:
            raise ValueError(f"{axis} must be 0 to {size - 1} under protocol {name}, got {wrong}")
    places = _once_each(name, rows, sizes)
    found = np.empty(len(places))
    found[places] = rows[PREDICTION]
    for wrong in np.flatnonzero(~np.isfinite(found)):
        where = _where(name, sizes, wrong)
        raise ValueError(f"they must be finite numbers; {where} has {found[wrong]}")
    return found.reshape(*sizes.values())


def _once_each(name: str, rows: Rows, sizes: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the place of each row in a flat array; raise ValueError unless each is taken once."""
    shape = tuple(sizes.values())
    places = np.ravel_multi_index([rows[axis] for axis in sizes], shape)
    counts = np.bincount(places, minlength=int(np.prod(shape)))
    wrong = np.flatnonzero(counts != 1)
    if len(wrong):
        stands = f"stands {counts[wrong[0]]} times" if counts[wrong[0]] else "is missing"
        others = f", and {len(wrong) - 1} others are missing or doubled" if len(wrong) > 1 else ""
        raise ValueError(
            f"there must be one for each query point; {_where(name, sizes, wrong[0])} {stands}"
            f"{others}"
        )
    return np.asarray(places)


def _where(name: str, sizes: Mapping[str, int], place: Any) -> str:
    """Spell a place: `protocol standard, task 3, point 7`."""
    at = np.unravel_index(place, tuple(sizes.values()))
    return ", ".join(
        [f"protocol {name}", *(f"{axis} {n}" for axis, n in zip(sizes, at, strict=True))]
    )
