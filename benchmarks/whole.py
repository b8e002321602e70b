"""Measure how the cost of a whole study grows with its number of training jobs.

python benchmarks/whole.py --out results/benchmarks                      what `make growth` does

Each study has so short trainings that the workflow itself is measured: Snakemake, the start of
jobs, records, tables, figures, report and tracking. It runs on one core. In the larger studies, one
process writes all records, and Snakemake only decides what is left to do. A row of the table is one
part of one study:

    dry run            Snakemake decides what to do: before, with all records, after
    run                the whole study; its processor seconds are Snakemake's and the commands',
                       without those of the jobs, which fork from a prepared process
    records            all training, evaluation and baseline jobs in one process
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
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from math import ceil, isnan
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from metabench.records.layout import Layout
from metabench.workflow.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SIZES = (10, 100, 1000, 3000)
"""Numbers of training jobs."""

WHOLE = 100
"""The most training jobs of a study that Snakemake runs from beginning to end."""

AGAIN = ("tables", "figures", "report")
"""The commands of a study that are measured alone."""

FILES = ("train", "checkpoints", "evaluate", "tables", "figures", "report.html", "logs")
FILES += ("benchmarks", "track", "mlflow.db", "mlartifacts")
"""What a study leaves in its folder."""


class Part(NamedTuple):
    """A row of the table: one part of the study with a number of training jobs."""

    training_jobs: int
    part: str
    count: float = float("nan")
    """Jobs, files, or rows of a database."""
    seconds: float = float("nan")
    processor_seconds: float = float("nan")
    peak_megabytes: float = float("nan")
    megabytes: float = float("nan")
    """Size of the files."""


def study(training_jobs: int) -> dict[str, Any]:
    """Return the content of a study like `smoke` with a number of cells of FOMAML, two seeds in
    one block, one protocol, and trainings of one meta-iteration.
    """
    content = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    group = next(group for group in content["cells"] if group["algorithm"] == "fomaml")
    kept = {key: value for key, value in group.items() if key != "published"}
    sizes = [round(0.0001 * n, 4) for n in range(1, training_jobs // 10 + 1)]
    outer = [round(0.001 * n, 3) for n in range(1, 11)]
    cells = {"meta_iterations": 1, "inner_step_size": sizes, "meta_step_size": outer}
    protocols = {"robustness": content["protocols"]["robustness"]}
    changed = {"study": "whole", "seeds": 2, "seed_block": 2, "protocols": protocols}
    return {**content, **changed, "cells": [kept | cells]}


def command(folder: Path, *line: str) -> dict[str, float]:
    """Run a command in a folder to its end; return its seconds, processor seconds and memory."""
    before = time.perf_counter()
    with (folder / "output").open("wb") as output:
        actions = [(os.POSIX_SPAWN_DUP2, output.fileno(), stream) for stream in (1, 2)]
        program = str(BIN / line[0])
        here = Path.cwd()
        os.chdir(folder)
        process = os.posix_spawn(program, [program, *line[1:]], os.environ, file_actions=actions)
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


def measure(training_jobs: int, folder: Path) -> Iterator[Part]:
    """Run a study in a folder; yield each part."""
    content = yaml.safe_dump(study(training_jobs), sort_keys=False)
    (folder / "study.yaml").write_text(content, encoding="utf-8")
    layout = Layout(folder / "results" / "whole")
    part = partial(Part, training_jobs)
    dry = ("--dry-run", "--quiet")
    yield part("dry run before", **snakemake(folder, *dry))
    if training_jobs <= WHOLE:
        yield part("run", **snakemake(folder))
        yield part("dry run after", **snakemake(folder, *dry))
        for rule in sorted(path.name for path in (layout.root / "benchmarks").iterdir()):
            yield _timed(training_jobs, rule, layout.root / "benchmarks")
    else:
        yield part("records", **command(folder, "python", __file__, "--records"))
        yield part("dry run with records", **snakemake(folder, *dry))
    for name in AGAIN:
        words = ["--study", str(layout.study)]
        if name == "figures":
            words = ["--tables", str(layout.tables), "--out", str(layout.figures)]
        yield part(f"{name} alone", **command(folder, "metabench", name, *words))
    left = {name: layout.root / name for name in FILES} | {".snakemake": folder / ".snakemake"}
    for name, place in left.items():
        if place.exists():
            yield _size(training_jobs, f"files of {name}", place)
    yield from _rows(training_jobs, layout.root / "mlflow.db")


def write_records() -> None:
    """Write all records of the study in this folder, in this process."""
    from metabench import jobs

    running = jobs.read("study.yaml")
    running.write()
    for cell, seeds in running.study.train_jobs:
        jobs.train(running, cell, seeds)
    for cell, group, seeds in running.study.evaluate_jobs:
        jobs.evaluate(running, cell, group, seeds)
    for group in running.study.groups:
        jobs.baselines(running, group)


def _rows(training_jobs: int, database: Path) -> Iterator[Part]:
    """Yield the number of rows of each table of a store, if there is one."""
    if database.exists():
        with closing(sqlite3.connect(database)) as store:
            for table in ("runs", "metrics", "params", "tags"):
                (rows,) = store.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
                yield Part(training_jobs, f"MLflow rows of {table}", rows)


def _timed(training_jobs: int, rule: str, benchmarks: Path) -> Part:
    """Return the jobs of a rule and their seconds, as Snakemake recorded them."""
    place = benchmarks / rule
    files = list(place.rglob("*.tsv")) if place.is_dir() else [place]
    seconds = sum(float(pd.read_csv(file, sep="\t")["s"].iat[0]) for file in files)
    return Part(training_jobs, f"jobs of {place.stem}", len(files), seconds)


def _size(training_jobs: int, part: str, place: Path) -> Part:
    files = [path for path in (place, *place.rglob("*")) if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    return Part(training_jobs, part, len(files), megabytes=size)


SHOWN = {
    "dry run before": ("processor_seconds", "processor seconds"),
    "dry run with records": ("processor_seconds", "processor seconds"),
    "dry run after": ("processor_seconds", "processor seconds"),
    "run": ("seconds", "seconds"),
    "jobs of train": ("seconds", "seconds"),
    "jobs of evaluate": ("seconds", "seconds"),
    "jobs of track": ("seconds", "seconds"),
    "records": ("processor_seconds", "processor seconds"),
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
    sizes = sorted(rows["training_jobs"].unique())
    found = rows.set_index(["part", "training_jobs"])
    lines = [
        f"| part | unit | {' | '.join(map(str, sizes))} |",
        f"| --- | --- |{' ---: |' * len(sizes)}",
    ]
    for part, (column, unit) in SHOWN.items():
        values = [found[column].get((part, size), float("nan")) for size in sizes]
        cells = ["" if isnan(value) else _number(value) for value in values]
        lines.append(f"| {part} | {unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def projection(rows: pd.DataFrame, cells: int, seeds: int, block: int) -> str:
    """Return in words what the workflow around a large study costs, in proportion to 100 jobs.

    Args:
        rows: The measured table. Its studies have one protocol and two runs per training job.
        cells: Number of cells.
        seeds: Number of seeds.
        block: Seeds per training job.
    """
    at = rows.set_index(["training_jobs", "part"])
    least = min(rows["training_jobs"])
    large, small = at.loc[WHOLE], at.loc[least]
    used = large.loc["run", "processor_seconds"] - small.loc["run", "processor_seconds"]
    jobs, runs = cells * ceil(seeds / block), cells * seeds
    scheduling = used / (WHOLE - least) * jobs / 3600
    share = runs / (2 * WHOLE)
    tracking = large.loc["jobs of track", "seconds"] * share / 3600
    metrics = large.loc["MLflow rows of metrics", "count"] * share / 1e6
    store = large.loc["files of mlflow.db", "megabytes"] * share / 1e3
    return (
        f"| {block} | {jobs:,} | {scheduling:.2g} | {runs:,} | {tracking:.2g} | {metrics:.3g} | "
        f"{store:.2g} |"
    )


def main() -> None:
    """Measure and write; a finished size is kept if a later one is interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--records", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    arguments = parser.parse_args()
    if arguments.records:
        write_records()
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[Part] = []
    with Progress("whole studies", len(arguments.sizes)) as progress:
        for size in arguments.sizes:
            folder = Path(tempfile.mkdtemp(prefix="metabench-whole-"))
            rows += measure(size, folder)
            shutil.rmtree(folder)
            table = pd.DataFrame(rows)
            table.to_csv(arguments.out / "whole.csv", index=False, float_format="%.4g")
            progress.advance()
    print(table.to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
