"""Tables as files: CSV and parquet with the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.records.artifacts import ArtifactError, replacing

CELLS = ("cell", "cell_a", "cell_b")
"""Columns that name a cell: text, even where every name in a file happens to look like a number."""


def write(table: pd.DataFrame, path: Path) -> None:
    """Write one table, as CSV or parquet by its name."""
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(table, temporary)
        else:
            table.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write parquet as small as it gets: keys as dictionaries, numbers with their bytes side by
    side.
    """
    numbers = list(table.select_dtypes("floating").columns)
    keys = [column for column in table.columns if column not in numbers]
    table.to_parquet(
        path,
        index=False,
        compression="zstd",
        compression_level=15,
        use_dictionary=keys,
        column_encoding=dict.fromkeys(numbers, "BYTE_STREAM_SPLIT"),
    )


def read(folder: Path, name: str) -> pd.DataFrame:
    """Read one table of a folder; only an empty field is missing, and `inf` is infinite.

    Whether it is the table that was written is told by the folder's manifest.

    Raises:
        ArtifactError: It cannot be read.
    """
    path = folder / name
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(
            path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(CELLS, str)
        )
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is not a readable table: {_line(error)}") from None


def _line(error: Exception) -> str:
    """Return an error's text in one line that is not too long to read."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def spell(columns: Mapping[str, NDArray[Any]]) -> str:
    """Return columns of equal length as CSV text."""
    return str(
        pd.DataFrame(dict(columns)).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    )


def read_points(path: Path) -> NDArray[np.float32]:
    """Read support points from a CSV file with the columns x and y, ``(shots, 2)``.

    Raises:
        ArtifactError: It has no such columns, no rows, or a value that is not a finite number.
    """
    try:
        table = pd.read_csv(path, dtype={"x": np.float64, "y": np.float64})
        if not isinstance(
            table.index, pd.RangeIndex
        ):  # the first fields have become the names of rows
            raise ValueError("its rows have more fields than its header")
        values = table[["x", "y"]]
    except (OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"points must be a CSV file with the columns x and y, numbers only: {path}: {_line(error)}"
        ) from None
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
        points = values.to_numpy(dtype=np.float32)
    if not len(points) or not np.isfinite(points).all():
        raise ArtifactError(
            f"points must be one or more rows of finite numbers, got {len(points)} rows: {path}"
        )
    return points
