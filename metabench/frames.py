"""Tables as files: CSV and parquet with the same bytes for the same rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from metabench.artifacts import replacing


def write(table: pd.DataFrame, path: Path) -> None:
    """Write one table, as CSV or parquet by its name."""
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False, compression="zstd")
        else:
            table.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")


def read(folder: Path, name: str) -> pd.DataFrame:
    """Read one table of a folder; only an empty field is missing, and `inf` is infinite."""
    path = folder / name
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, keep_default_na=False, na_values=[""])
