"""Measure how the cost of a whole study grows with its numbers of training jobs and of seeds.

python benchmarks/whole.py --out results/benchmarks                      what `make growth` does

Each study has so short trainings that the workflow itself is measured: Snakemake, the start of
jobs, records, tables, figures, report and tracking. Snakemake runs it on one core, from beginning
to end. A row of the table is one part of one study:

    dry run            Snakemake decides what to do: before, and after
    run                the whole study; its processor seconds are Snakemake's and the commands',
                       without those of the jobs, which fork from a prepared process
    jobs of ...        the jobs of a rule, as Snakemake times them
    tables, ... alone  the command by itself
    files of ...       what is left in the study's folder
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from metabench.records.layout import Layout
from metabench.workflow.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


class Size(NamedTuple):
    """The numbers of training jobs of a study, each of one cell, and of seeds of each job."""

    training_jobs: int
    seeds: int


SMALL, LARGE, WIDE = Size(10, 2), Size(1000, 2), Size(10, 100)
SIZES = (SMALL, Size(100, 2), LARGE, Size(3000, 2), WIDE)
"""The projection is a straight line through three of them, per job and per run."""

AGAIN = ("tables", "figures", "report")
"""The commands of a study that are measured alone."""

FILES = ("train", "checkpoints", "evaluate", "tables", "figures", "report.html", "logs")
FILES += ("benchmarks", "track", "mlflow.db", "mlartifacts")
"""What a study leaves in its folder."""


class Part(NamedTuple):
    """A row of the table: one part of a study."""

    training_jobs: int
    seeds: int
    part: str
    count: float = float("nan")
    """Jobs, files, or rows of a database."""
    seconds: float = float("nan")
    processor_seconds: float = float("nan")
    peak_megabytes: float = float("nan")
    megabytes: float = float("nan")
    """Size of the files."""


def study(size: Size) -> dict[str, Any]:
    """Return the content of a study like `smoke` with cells of FOMAML, seeds in one block, one
    protocol, and trainings of one meta-iteration.
    """
    content = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    group = next(group for group in content["cells"] if group["algorithm"] == "fomaml")
    kept = {key: value for key, value in group.items() if key != "published"}
    inner = [round(0.0001 * n, 4) for n in range(1, size.training_jobs // 10 + 1)]
    outer = [round(0.001 * n, 3) for n in range(1, 11)]
    cells = {"meta_iterations": 1, "inner_step_size": inner, "meta_step_size": outer}
    protocols = {"robustness": content["protocols"]["robustness"]}
    seeds = {"seeds": size.seeds, "seed_block": size.seeds}
    return {**content, **seeds, "study": "whole", "protocols": protocols, "cells": [kept | cells]}


WITHOUT_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"
"""The variable with which each process would compile all that it imports again. The Makefile drops
it, too.
"""


def command(folder: Path, *line: str) -> dict[str, float]:
    """Run a command in a folder to its end; return its seconds, processor seconds and memory."""
    kept = {name: value for name, value in os.environ.items() if name != WITHOUT_BYTE_CODE}
    before = time.perf_counter()
    with (folder / "output").open("wb") as output:
        actions = [(os.POSIX_SPAWN_DUP2, output.fileno(), stream) for stream in (1, 2)]
        program = str(BIN / line[0])
        here = Path.cwd()
        os.chdir(folder)
        process = os.posix_spawn(program, [program, *line[1:]], kept, file_actions=actions)
        os.chdir(here)
    _, status, used = os.wait4(process, 0)
    if status:
        raise SystemExit(f"whole: {line}: {(folder / 'output').read_text()[-500:]}")
    return {
        "seconds": time.perf_counter() - before,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_megabytes": used.ru_maxrss / 1000,
    }


def snakemake(folder: Path, *more: str) -> dict[str, float]:
    """Run Snakemake on a folder's study with one core."""
    line = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "study.yaml", "--cores", "1"]
    profile = ["--workflow-profile", str(ROOT / "profiles" / "default")]
    return command(folder, "snakemake", *line, *profile, *more)


def write_study(size: Size, folder: Path) -> None:
    """Write the file of a study into a folder."""
    content = yaml.safe_dump(study(size), sort_keys=False)
    (folder / "study.yaml").write_text(content, encoding="utf-8")


def measure(size: Size, folder: Path) -> Iterator[Part]:
    """Run a study in a folder; yield each part."""
    write_study(size, folder)
    layout = Layout(folder / "results" / "whole")
    part = partial(Part, *size)
    dry = ("--dry-run", "--quiet")
    yield part("dry run before", **snakemake(folder, *dry))
    yield part("run", **snakemake(folder))
    yield part("dry run after", **snakemake(folder, *dry))
    for rule in sorted(path.name for path in (layout.root / "benchmarks").iterdir()):
        yield _timed(part, rule, layout.root / "benchmarks")
    for name in AGAIN:
        words = ["--study", str(layout.study)]
        if name == "figures":
            words = ["--tables", str(layout.tables), "--out", str(layout.figures)]
        yield part(f"{name} alone", **command(folder, "metabench", name, *words))
    left = {name: layout.root / name for name in FILES} | {".snakemake": folder / ".snakemake"}
    for name, place in left.items():
        if place.exists():
            yield _left(part, f"files of {name}", place)
    yield from _rows(part, layout.root / "mlflow.db")


def _rows(part: Callable[..., Part], database: Path) -> Iterator[Part]:
    """Yield the number of rows of each table of a store."""
    with closing(sqlite3.connect(database)) as store:
        for table in ("runs", "metrics", "params", "tags"):
            (rows,) = store.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
            yield part(f"MLflow rows of {table}", rows)


def _timed(part: Callable[..., Part], rule: str, benchmarks: Path) -> Part:
    """Return the jobs of a rule and their seconds, as Snakemake recorded them."""
    place = benchmarks / rule
    files = list(place.rglob("*.tsv")) if place.is_dir() else [place]
    seconds = sum(float(pd.read_csv(file, sep="\t")["s"].iat[0]) for file in files)
    return part(f"jobs of {place.stem}", len(files), seconds)


def _left(part: Callable[..., Part], name: str, place: Path) -> Part:
    files = [path for path in (place, *place.rglob("*")) if path.is_file()]
    return part(name, len(files), megabytes=sum(path.stat().st_size for path in files) / 1e6)


SHOWN = {
    "dry run before": ("processor_seconds", "processor seconds"),
    "dry run after": ("processor_seconds", "processor seconds"),
    "run": ("seconds", "seconds"),
    "jobs of train": ("seconds", "seconds"),
    "jobs of evaluate": ("seconds", "seconds"),
    "jobs of track": ("seconds", "seconds"),
    "tables alone": ("processor_seconds", "processor seconds"),
    "figures alone": ("processor_seconds", "processor seconds"),
    "report alone": ("processor_seconds", "processor seconds"),
    "files of tables": ("megabytes", "MB"),
    "files of report.html": ("megabytes", "MB"),
    "files of mlflow.db": ("megabytes", "MB"),
    "MLflow rows of metrics": ("count", "rows"),
}
"""What the page on scaling shows of each part: a column and its unit."""


def markdown(rows: pd.DataFrame) -> str:
    """Return the parts of each measured study as a table in Markdown."""
    sizes = rows[["training_jobs", "seeds"]].drop_duplicates().itertuples(index=False, name=None)
    studies = [Size(*size) for size in sizes]
    found = rows.set_index(["part", "training_jobs", "seeds"])
    names = [f"{jobs:,} jobs, {seeds} seeds" for jobs, seeds in studies]
    lines = [f"| part | unit | {' | '.join(names)} |", f"| --- | --- |{' ---: |' * len(names)}"]
    for part, (column, unit) in SHOWN.items():
        cells = [_number(found[column][part, *size]) for size in studies]
        lines.append(f"| {part} | {unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _rounded(value: float) -> str:
    return _number(float(f"{value:.2g}"))


class Projected(NamedTuple):
    """A row of the projection: the sum of a column over parts, in larger units."""

    name: str
    parts: tuple[str, ...]
    column: str
    units: float
    per_job: bool = False
    """Whether it grows with training jobs and their seeds, instead of cells and all seeds."""


RECORDS = ("files of train", "files of checkpoints", "files of evaluate")
STORE = ("files of mlflow.db", "files of mlartifacts")
PROJECTED = (
    Projected("Snakemake and commands, processor hours", ("run",), "processor_seconds", 3600, True),
    Projected("start-up and jobs of training, hours", ("jobs of train",), "seconds", 3600, True),
    Projected("jobs of evaluation, hours", ("jobs of evaluate",), "seconds", 3600, True),
    Projected("files of records, thousands", RECORDS, "count", 1e3, True),
    Projected("size of records, GB", RECORDS, "megabytes", 1e3, True),
    Projected("tables, minutes", ("tables alone",), "processor_seconds", 60),
    Projected("tables, GB of memory", ("tables alone",), "peak_megabytes", 1e3),
    Projected("size of tables, GB", ("files of tables",), "megabytes", 1e3),
    Projected("report, GB of memory", ("report alone",), "peak_megabytes", 1e3),
    Projected("size of the report, MB", ("files of report.html",), "megabytes", 1),
    Projected("tracking, hours", ("jobs of track",), "seconds", 3600),
    Projected("metrics in MLflow, millions", ("MLflow rows of metrics",), "count", 1e6),
    Projected("size of MLflow's store, GB", STORE, "megabytes", 1e3),
)


def projection(rows: pd.DataFrame, cells: int, seeds: int, blocks: Sequence[int]) -> str:
    """Return what the workflow around a large study costs, as a table in Markdown.

    A straight line through three measured studies: each job has its cost, and each of its runs.

    Args:
        rows: The measured table.
        cells: Number of cells.
        seeds: Number of seeds.
        blocks: Seeds per training job, a column for each.
    """
    found = rows.set_index(["part", "training_jobs", "seeds"])

    def cost(what: Projected, size: Size) -> float:
        small, large, wide = (
            sum(found[what.column][part, *at] for part in what.parts) for at in (SMALL, LARGE, WIDE)
        )
        run = (wide - small) / (WIDE.training_jobs * (WIDE.seeds - SMALL.seeds))
        job = (large - small) / (LARGE.training_jobs - SMALL.training_jobs) - SMALL.seeds * run
        start = small - SMALL.training_jobs * (job + SMALL.seeds * run)
        return (start + size.training_jobs * (job + size.seeds * run)) / what.units

    sizes = [Size(cells * ceil(seeds / block), block) for block in blocks]
    lines = [
        f"| | {' | '.join(f'{block} seeds per job' for block in blocks)} |",
        f"| --- |{' ---: |' * len(blocks)}",
        f"| training jobs | {' | '.join(f'{size.training_jobs:,}' for size in sizes)} |",
    ]
    for what in PROJECTED:
        costs = [cost(what, size if what.per_job else Size(cells, seeds)) for size in sizes]
        lines.append(f"| {what.name} | {' | '.join(map(_rounded, costs))} |")
    return "\n".join(lines)


def _size(text: str) -> Size:
    jobs, seeds = text.split("x")
    return Size(int(jobs), int(seeds))


def main() -> None:
    """Measure and write; a finished size is kept if a later one is interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=_size, nargs="+", default=SIZES, help="as JOBSxSEEDS, for instance 100x2"
    )
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[Part] = []
    with Progress("whole studies", 1 + len(arguments.sizes)) as progress:
        # The first study leaves byte code of all that is imported, and is not kept.
        for number, size in enumerate((SMALL, *arguments.sizes)):
            folder = Path(tempfile.mkdtemp(prefix="metabench-whole-"))
            found = list(measure(size, folder))
            shutil.rmtree(folder)
            rows += found if number else []
            table = pd.DataFrame(rows, columns=Part._fields)
            table.to_csv(arguments.out / "whole.csv", index=False, float_format="%.4g")
            progress.advance()
    print(table.to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
