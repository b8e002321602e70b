"""Predictions that were made elsewhere: their file, read, checked and put in order.

    bank, protocol, task, point, prediction       a row for each query point of the test bank, and
    seed, bank, protocol, task, point, prediction the same for each seed, where there are seeds

`bank` is the number of the tasks that were asked (`bank_number`): exported questions have it in
every row. An npz file has arrays instead: `PROTOCOL/bank`, that number, and `PROTOCOL/prediction`,
``(task, point)`` or ``(seed, task, point)``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, is_zipfile
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from metabench.learning.predictions import BankSettings
from metabench.learning.settings import Protocol
from metabench.records import csv_files
from metabench.records.artifacts import Arrays, ArtifactError, content_digest
from metabench.records.provenance import config_digest

BANK, PROTOCOL, PREDICTION = "bank", "protocol", "prediction"
SEED = "seed"


class Column(NamedTuple):
    """A column of exported tables and of predictions, or an array.

    Args:
        type: Its type, as numpy and arrow call it.
        meaning: In words.
    """

    type: str
    meaning: str


COLUMNS = {
    BANK: Column("int64", "Number of the test tasks under the protocol, of nine digits."),
    PROTOCOL: Column("string", "Name of the protocol."),
    "task": Column("int64", "Task of the bank or, in training, of the seed, from 0."),
    "point": Column("int64", "Point of the task, from 0."),
    PREDICTION: Column("float64", "Prediction of y at the query point, without noise: finite."),
}
"""The columns of predictions."""

OF_SEEDS = {SEED: Column("int64", "Training seed, from 0.")}
"""The column that there may be besides."""

NOT_ASKED = {"updates", "optimizer", "regions"}
"""Keys of a protocol that a method made elsewhere need not follow."""

IN_TASKS = {"domain", "noise", "tasks"}
"""Keys of a protocol that change the task distribution, which contains them."""

UNREADABLE = (
    ArithmeticError,
    BadZipFile,
    csv.Error,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    ZlibError,
)
"""What libraries raise on files that are damaged or hold something else."""

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
            raise ValueError(
                f"there must be a file {path.absolute()}, and there is none; a study names it "
                f"relative to the working directory"
            )
        is_npz = path.suffix == ".npz"
        rows = _of_arrays(path, settings, seeds) if is_npz else _of_table(path)
        found = {name: _answers(name, rows, settings, seeds) for name in settings.protocols}
        if len({answers.ndim for answers in found.values()}) > 1:
            raise ValueError("either all protocols have seeds or none has")
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"predictions in {path}: {reason:.300}") from None
    seeded = next(iter(found.values())).ndim == 3
    return Predictions(seeded, found if seeded else {name: y[None] for name, y in found.items()})


def shapes(settings: BankSettings, seeds: int, name: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return the length of each axis of predictions under a protocol, without and with seeds."""
    without = {"task": settings.banks.test, "point": settings.points(name)}
    return without, {SEED: seeds, **without}


def _of_table(path: Path) -> dict[str, Rows]:
    """Return the rows of a parquet or CSV file by protocol."""
    table = _table(path)
    for name in (*COLUMNS, SEED):
        count = table.column_names.count(name)
        if count > 1:
            raise ValueError(f"there must be one column {name}, and there are {count}")
        if count == 0 and name != SEED:
            raise ValueError(
                f"the columns must be {', '.join(COLUMNS)}, and seed where there are seeds; "
                f"{name} is missing"
            )
    numbers = [name for name in (*COLUMNS, SEED) if name in table.column_names and name != PROTOCOL]
    columns = {name: _numbers(name, table.column(name)) for name in numbers}
    protocols = _cast(PROTOCOL, table.column(PROTOCOL), "string")
    protocols = protocols.combine_chunks().dictionary_encode()
    of = protocols.indices.to_numpy(zero_copy_only=False)  # nan where a row has none
    return {
        name: {key: values[of == n] for key, values in columns.items()}
        for n, name in enumerate(protocols.dictionary.to_pylist())
    }


def _numbers(name: str, column: Any) -> NDArray[Any]:
    """Return a column of numbers: whole ones, but for predictions."""
    values = np.asarray(_cast(name, column, "float64").to_numpy())  # nan where a row has none
    if name == PREDICTION:
        return values
    if column.null_count:
        raise ValueError(f"every row must have a {name}, and some have none")
    whole = (np.abs(values) < 2**53) & (values == np.trunc(values))
    for row in np.flatnonzero(~whole):
        raise ValueError(f"{name} must be a whole number, got {values[row]:g} in row {row + 1}")
    return values.astype(np.int64)


def _cast(name: str, column: Any, wanted: str) -> Any:
    """Return a column as another type; raise ValueError if it has something else."""
    try:
        return column.cast(wanted, safe=False)
    except (ValueError, NotImplementedError):
        kind = "text" if wanted == "string" else "numbers"
        raise ValueError(f"{name} must be a column of {kind}, got one of {column.type}") from None


def _table(path: Path) -> Any:
    """Read a parquet or CSV file; R and spreadsheets may have whole numbers as real ones."""
    if path.suffix == ".parquet":
        return _parquet(path)
    return csv_files.read(path, dict.fromkeys((*COLUMNS, SEED), "float64") | {PROTOCOL: "string"})


def _parquet(path: Path) -> Any:
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            return file.read()
    except ValueError:
        raise ValueError("it must be a parquet file, and is damaged or something else") from None


def _of_arrays(path: Path, settings: BankSettings, seeds: int) -> dict[str, Rows]:
    """Return the arrays of an npz file as rows by protocol."""
    if not is_zipfile(path):
        raise ValueError("it must be an npz file, and is damaged or something else")
    found = {}
    with np.load(path) as file:
        for name in settings.protocols:
            key, bank = f"{name}/{PREDICTION}", f"{name}/{BANK}"
            for array in (key, bank):
                if array not in file.files:
                    has = ", ".join(file.files) or "none"
                    raise ValueError(f"there must be an array {array}; the arrays are {has}")
            values, number = _array(file, key), _array(file, bank)
            if number.size != 1:
                raise ValueError(f"{bank} must be one number, got the shape {number.shape}")
            axes = _axes(key, values.shape, shapes(settings, seeds, name))
            places = zip(axes, np.indices(values.shape), strict=True)
            rows = {axis: at.ravel() for axis, at in places}
            found[name] = {**rows, BANK: number, PREDICTION: values.ravel()}
    return found


def _array(file: Any, key: str) -> NDArray[Any]:
    """Read an array of real numbers from an npz file."""
    try:
        values = np.asarray(file[key])
    except UNREADABLE:
        raise ValueError(
            f"{key} must be an array of numbers, and is damaged or has objects"
        ) from None
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{key} must be an array of real numbers, got {values.dtype}")
    return values


def _axes(key: str, got: tuple[int, ...], allowed: tuple[dict[str, int], ...]) -> tuple[str, ...]:
    """Return the axes of an array by its shape; raise ValueError if it is none of those allowed."""
    for sizes in allowed:
        if got == tuple(sizes.values()):
            return tuple(sizes)
    known = " or ".join(
        f"({', '.join(sizes)}) = ({', '.join(map(str, sizes.values()))})" for sizes in allowed
    )
    raise ValueError(f"{key} must have the shape {known}, got {got}")


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
    sizes = shapes(settings, seeds, name)[SEED in rows]
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
