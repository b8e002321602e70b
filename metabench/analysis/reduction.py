"""Reduce a study's tables for a reference: fewer digits and rows, and digests of the full files.

Full tables of all studies would make a repository of 85 MB, and each new run would add as much to
its history. The reduced tables suffice to draw every figure and to compare a new study with them.
The digests still show whether its tables have the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis import frames
from metabench.records import manifests
from metabench.records.artifacts import ArtifactError
from metabench.study.grids import has_point

SHORT = 11
"""Significant binary digits of values that are compared with a tolerance, or drawn."""

PRECISION = 2.0**-SHORT
"""The largest relative error of these: 0.05%, a tenth of the tolerance of the comparison."""

BITS = {
    "adaptation.csv": 24,  # as many as float32 has: pages print numbers of this table
    "curves.parquet": SHORT,
    "gallery.csv": SHORT,
    "history.csv": SHORT,
    "showcase.csv": SHORT,
    "showcase_updates.csv": SHORT,
    "tasks.parquet": SHORT,
}
"""The tables that are reduced, and their significant binary digits; the others are unchanged."""

EXACT = ("step_size", "percentile", "x", "x1", "x2")
"""Numbers that identify rows."""

REGION_TASKS = 100
"""Tasks whose losses on the seen and unseen part of the grid are kept, and all losses under the
protocols of a grid.

The median over them shows equally well whether the losses of a run differ; the loss on the whole
grid is kept for all tasks.
"""


def write(folder: Path, out: Path) -> None:
    """Write a folder of reduced tables, and finally their manifest.

    Under `made`, the manifest identifies the full tables: the digest of each file, that of all, and
    that of the content of each parquet table.

    Args:
        folder: Full tables with their manifest.
        out: Where to write.

    Raises:
        ArtifactError: A table does not match the manifest, or they are already reduced.
    """
    header = manifests.read(folder)
    if "made" in header:
        raise ArtifactError(f"{folder} is a reference already; make one from a study's full tables")
    out.mkdir(parents=True, exist_ok=True)
    names = [_write_table(folder, name, out) for name in header["files"]]
    packed = [name for name in header["files"] if name.endswith(".parquet")]
    tables = {name: frames.content_digest(folder / name) for name in packed}
    made = {"content": header["content"], "files": header["files"], "tables": tables}
    manifests.write(out, names, {**header, "kind": "reference", "made": made})


def _write_table(folder: Path, name: str, out: Path) -> str:
    """Write one table, reduced or unchanged, and return the name of its file."""
    if name not in BITS:
        shutil.copyfile(folder / name, out / name)
        return name
    table = thin(name, frames.read(folder, name))
    for column in _numbers(table):
        table[column] = shortened(table[column].to_numpy(), BITS[name])
    path = (out / name).with_suffix(".parquet")
    frames.pack(table, path)
    return path.name


def _numbers(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that are shortened."""
    return [name for name in table.select_dtypes("floating") if name not in EXACT]


def thin(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a full table that a reference keeps."""
    if name not in ("tasks.parquet", "curves.parquet", "adaptation.csv"):
        return table
    of_grid = table["protocol"].astype(str).map(has_point)
    if name == "tasks.parquet":
        kept = (table["region"] == "all") & ~of_grid | (table["task"] < REGION_TASKS)
    elif name == "curves.parquet":
        # Adaptation at the common step is in adaptation.csv, over all runs together.
        kept = (table["step"] != "common") & ~of_grid
    else:
        last = table.groupby("protocol")["update"].transform("max")
        kept = ~of_grid | (table["update"] == last)
    return table[kept].reset_index(drop=True)


def shortened(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Round numbers to some significant binary digits; the remaining bits are 0.

    Readers see ordinary numbers, and a compressor sees the zeros. The relative error is at most
    2^-bits. Non-finite values are unchanged.

    Example:
        >>> shortened(np.array([1.0, 3.14159, -0.001, np.inf]), 4).tolist()
        [1.0, 3.25, -0.0009765625, inf]
    """
    fraction, exponent = np.frexp(values)  # 0.5 <= |fraction| < 1
    with np.errstate(over="ignore"):
        short = np.ldexp(np.round(np.ldexp(fraction, bits)), exponent - bits)
    # The largest numbers would be rounded up to infinity, which means something else.
    return np.where(np.isfinite(values) & ~np.isfinite(short), values, short)


def made(folder: Path) -> Mapping[str, set[str]]:
    """Return the digests of the full tables behind a folder, by name; none if it is full.

    They are those of the file and, of a parquet table, also that of its content.

    Raises:
        ArtifactError: The folder is reduced, and a file does not match its manifest.
    """
    try:
        header = json.loads((folder / manifests.NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(header, dict) or "made" not in header:
        return {}
    try:
        found = manifests.read(folder)["made"]
        # Older references know only the files.
        tables = found.get("tables", {})
        return {name: {digest, tables.get(name, digest)} for name, digest in found["files"].items()}
    except (AttributeError, LookupError, TypeError, ValueError):
        raise ArtifactError(
            f"{folder / manifests.NAME} does not name the reference's original tables"
        ) from None
