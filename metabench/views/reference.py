"""A reference: what a repository keeps of a finished study, so that others can compare with it."""

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
    """Write reduced tables, the figures that they give as PNG, and where they were computed.

    The folder replaces the one that is there, once it is complete. The same study gives the same
    bytes. How long its trainings took stands in a file beside the tables, since no other run of the
    study takes as long.

    Args:
        root: The study's folder, of which `tables`, `provenance.json` and `benchmarks` are read.
        out: The folder to write; it may be `root` itself.
        advance: Called after the tables and after each figure.

    Raises:
        ArtifactError: The tables are missing, damaged, or reduced already.
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
    """Return how long each training job took here, as Snakemake measured it: wall clock, one core.

    A job that was resumed counts from then on. A study that trains nothing has no rows.

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
    """Return the files in which Snakemake noted what the training jobs of a cell took."""
    pattern = Layout(root).benchmark("train", algorithm, path_of(cell), "*")
    return sorted(pattern.parent.glob(pattern.name))


def _measured(path: Path) -> float:
    """Return the seconds of a job, from Snakemake's file."""
    return float(pd.read_csv(path, sep="\t")["s"].iloc[0])


def _draw(tables: Path, out: Path, advance: Callable[[], None]) -> None:
    """Draw all figures and keep the PNG files, as `metabench figures` writes them.

    Drawn from the reduced tables: whoever draws these tables again gets the same bytes.
    """
    drawn = figures.draw_all(tables, out, advance)
    kept = [path.name for path in drawn if path.suffix == ".png"]
    for path in drawn:
        if path.suffix != ".png":
            path.unlink()
    manifests.write(out, kept, figures.header(manifests.read(tables)["content"]))
