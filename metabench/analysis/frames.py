"""Tables as files: CSV and parquet with the same bytes for the same rows."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis.columns import of_x
from metabench.records.artifacts import ArtifactError, replacing

CELLS = ("cell", "cell_a", "cell_b")
"""Columns that name a cell: text, even if every name in a file happens to look like a number."""

PLAIN_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""The format of a number: ASCII digits, a decimal point, an exponent, and nothing else."""


def write(table: pd.DataFrame, path: Path, numbers: str = "%.9g") -> None:
    """Write one table, as CSV or parquet by its name; `numbers` is the format of numbers in CSV."""
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(table, temporary, "zstd", 15)
        else:
            table.to_csv(temporary, index=False, float_format=numbers, lineterminator="\n")


def pack(table: pd.DataFrame, path: Path) -> None:
    """Write one table as parquet, as small as possible, however long that takes."""
    with replacing(path) as temporary:
        _write_parquet(table, temporary, "brotli", 11)


def _write_parquet(table: pd.DataFrame, path: Path, compression: str, level: int) -> None:
    """Write parquet, with keys dictionary-encoded and the bytes of numbers split into streams."""
    numbers = list(table.select_dtypes("floating").columns)
    keys = [column for column in table.columns if column not in numbers]
    table.to_parquet(
        path,
        index=False,
        compression=compression,
        compression_level=level,
        use_dictionary=keys,
        column_encoding=dict.fromkeys(numbers, "BYTE_STREAM_SPLIT"),
    )


def read(folder: Path, name: str) -> pd.DataFrame:
    """Read one table of a folder; only an empty field is missing, and `inf` is infinite.

    A reference keeps some CSV tables as parquet: `history.csv` is then in `history.parquet`. The
    folder's manifest tells whether it is the table that was written.

    Raises:
        ArtifactError: It cannot be read.
    """
    path = _stored(folder / name)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(
            path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(CELLS, str)
        )
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is not a readable table: {_line(error)}") from None


def exists(folder: Path, name: str) -> bool:
    """Return whether a folder has a table."""
    return _stored(folder / name).exists()


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a parquet table's content: names, types and exact values of columns.

    The bytes of the file also depend on how it was compressed.

    Raises:
        ArtifactError: It cannot be read.
    """
    found = sha256()
    for name, column in read(path.parent, path.name).items():
        found.update(f"{name} {column.dtype}\n".encode())
        values = column.to_numpy()
        if values.dtype.kind not in "biuf":
            values, words = pd.factorize(column)
            found.update(json.dumps(list(words)).encode())
        found.update(values.tobytes())
    return found.hexdigest()


def _stored(path: Path) -> Path:
    """Return the file that contains a table: its own, or the parquet file that replaces it."""
    packed = path.with_suffix(".parquet")
    return packed if packed.exists() and not path.exists() else path


def _line(error: Exception) -> str:
    """Return an error's text in one line that is not too long to read."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def csv_text(columns: Mapping[str, NDArray[Any]]) -> str:
    """Return columns of equal length as CSV text."""
    return str(
        pd.DataFrame(dict(columns)).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    )


def read_points(path: Path, features: int = 1) -> NDArray[np.float32]:
    """Read support points from a CSV file, ``(shots, feature + 1)``.

    It has the columns x and y, or x1, x2, ... and y where x has several features. They may be in
    any order, and there may be other columns. Empty lines are skipped.

    Args:
        path: The file.
        features: Number of features of x.

    Raises:
        ArtifactError: Columns are missing, it has no rows, a row that is longer or shorter than its
            header, or a value that is not a finite number with a decimal point.
    """
    line = 0
    points = []
    names = [*of_x(features), "y"]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = [name.strip() for name in next(rows, [])]
            line = rows.line_num
            columns = [_only(header, name) for name in names]
            for fields in rows:
                line = rows.line_num
                if fields:
                    points.append(_point(header, fields, columns))
        if not points:
            raise ValueError("it has no rows of numbers")
    except (OSError, ValueError, csv.Error) as error:
        where = f"{path}, line {line}" if line else str(path)
        known = f"{', '.join(names[:-1])} and y"
        raise ArtifactError(
            f"points must be a CSV file with the columns {known}: {where}: {_line(error)}"
        ) from None
    return np.array(points, np.float32)


def _only(header: list[str], name: str) -> int:
    """Return the position of a name in a header; raise ValueError unless it occurs once."""
    if header.count(name) != 1:
        found = ", ".join(map(repr, header))
        raise ValueError(f"the header must name {name} once, got {found or 'none':.80}")
    return header.index(name)


def _point(header: list[str], fields: list[str], columns: list[int]) -> list[float]:
    """Return the values of one row in some columns; raise ValueError if one is not valid."""
    if len(fields) != len(header):
        raise ValueError(
            f"a row must have as many fields as the header, {len(header)}, got {len(fields)};"
            " decimals need a point, since the comma ends a field"
        )
    return [_number(header[column], fields[column]) for column in columns]


def _number(name: str, text: str) -> float:
    """Parse a number from a field; raise ValueError if float32 cannot hold it."""
    if not PLAIN_NUMBER.fullmatch(text.strip(" \t")):
        raise ValueError(f"{name} must be a number such as -1.5 or 2e-3, got {text!r:.40}")
    number = float(text)
    if abs(number) > float(np.finfo(np.float32).max):
        raise ValueError(f"{name} must be a number that float32 can hold, got {text!r:.40}")
    return number
