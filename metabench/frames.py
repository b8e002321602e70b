"""Tables as files: CSV and parquet with the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.artifacts import ArtifactError, replacing

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
    """Write parquet as small as it gets: keys as dictionaries, numbers with their bytes side by side."""
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
    """Read one table of a folder; only an empty field is missing, and `inf` is infinite."""
    path = folder / name
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(CELLS, str))


def spell(columns: Mapping[str, NDArray[Any]]) -> str:
    """Return columns of equal length as CSV text."""
    return str(pd.DataFrame(dict(columns)).to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def read_points(path: Path) -> NDArray[np.float32]:
    """Read support points from a CSV file with the columns x and y, ``(shots, 2)``.

    Raises:
        ArtifactError: It has no such columns, no rows, or a value that is not a finite number.
    """
    try:
        values = pd.read_csv(path)[["x", "y"]].to_numpy(dtype=np.float32)
    except (KeyError, ValueError) as error:
        raise ArtifactError(
            f"points must be a CSV file with the columns x and y, numbers only: {path}: {error}"
        ) from None
    if not len(values) or not np.isfinite(values).all():
        raise ArtifactError(f"points must be one or more rows of finite numbers, got {len(values)} rows: {path}")
    return values
