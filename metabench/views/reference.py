"""A reference: the part of a finished study that a repository keeps for comparison."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from metabench.analysis import frames, reduction
from metabench.records import manifests
from metabench.records.layout import Layout
from metabench.study.cells import path_of
from metabench.views import figures

SECONDS = "seconds.csv"


def write(root: Path, out: Path, advance: Callable[[], None] = lambda: None) -> None:
    """Write reduced tables, the PNG figures drawn from them, and their provenance.

    Once complete, the folder replaces the existing one. The same study gives the same bytes.
    Training times are in a separate file, because they differ between runs of the study.

    Args:
        root: The study's folder, of which `tables`, `provenance.json` and `benchmarks` are read.
        out: The folder to write; it may be `root` itself.
        advance: Called after the tables and after each figure.

    Raises:
        ArtifactError: The tables are missing, damaged, or already reduced.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        new = Path(place) / "new"
        new.mkdir()
        shutil.copyfile(root / "provenance.json", new / "provenance.json")
        reduction.write(root / "tables", new / "tables")
        frames.write(seconds(root), new / SECONDS)
        advance()
        _draw(new / "tables", new / "figures", advance)
        if out.exists():
            out.rename(Path(place) / "old")
        new.rename(out)


def seconds(root: Path) -> pd.DataFrame:
    """Return the time of each training job here, as measured by Snakemake: wall clock, one core.

    A resumed job counts from the point of resumption. A study that trains nothing has no rows.

    Args:
        root: The study's folder, of which `tables/cells.csv` and `benchmarks/train` are read.
    """
    cells = frames.read(root / "tables", "cells.csv")
    rows = [
        {"algorithm": algorithm, "cell": cell, "seeds": path.stem, "seconds": _measured(path)}
        for algorithm, cell in zip(cells["algorithm"], cells["cell"], strict=True)
        for path in _benchmarks(root, algorithm, cell)
    ]
    return pd.DataFrame(rows, columns=["algorithm", "cell", "seeds", "seconds"])


def _benchmarks(root: Path, algorithm: str, cell: str) -> list[Path]:
    """Return the files in which Snakemake recorded the times of a cell's training jobs."""
    pattern = Layout(root).benchmark("train", algorithm, path_of(cell), "*")
    return sorted(pattern.parent.glob(pattern.name))


def _measured(path: Path) -> float:
    """Return the seconds of a job, from Snakemake's file."""
    return float(pd.read_csv(path, sep="\t")["s"].iloc[0])


def _draw(tables: Path, out: Path, advance: Callable[[], None]) -> None:
    """Draw all figures and keep the PNG files, as `metabench figures` writes them.

    They are drawn from the reduced tables, so drawing these tables again gives the same bytes.
    """
    drawn = figures.draw_all(tables, out, advance)
    kept = [path.name for path in drawn if path.suffix == ".png"]
    for path in drawn:
        if path.suffix != ".png":
            path.unlink()
    manifests.write(out, kept, figures.header(manifests.read(tables)["content"]))
