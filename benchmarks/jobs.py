"""Measure the training job of every algorithm, by each engine, on one core.

    make bench                                                        (or, where all is installed already,)
    python benchmarks/jobs.py [--repeats 5] [--out results/benchmarks]

Trained are the published cells of config/algorithms.yaml, ten runs a stack, algorithms in turn within each repeat.
Written: algorithms.csv with microseconds per meta-iteration and run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from subjects import STACK, engines
from workers import Worker, cores, microseconds

from metabench import config, frames, plans
from metabench.figures import style
from metabench.progress import Progress

STUDY = config.load(Path(__file__).parents[1] / "config" / "algorithms.yaml")
COLUMNS = ["algorithm", "engine", "stack", "minimum", "median", "maximum"]


def measure(repeats: int, seconds: float) -> pd.DataFrame:
    """Return a row for each algorithm that trains, and engine."""
    cells = [cell for cell in plans.cells(STUDY) if cell.role == "published" and cell.meta_iterations]
    settings = {cell.algorithm: plans.train_settings(STUDY, cell) for cell in cells}
    jobs = [(name, engine) for name in sorted(settings) for engine in engines()]
    times: dict[tuple[str, str], list[float]] = {job: [] for job in jobs}
    with Worker(cores()[0]) as worker, Progress("measure", (repeats + 1) * len(jobs)) as progress:
        abouts = {}
        for name, engine in jobs:
            worker.ask("make", f"{name} {engine}", f"metabench {engine}", settings[name], STACK)
            abouts[name, engine] = worker.answer()
            progress.advance()
        for _ in range(repeats):
            for job in jobs:
                times[job].append(microseconds([worker], " ".join(job), seconds, abouts[job]))
                progress.advance()
    found = [(*job, STACK, min(t), float(pd.Series(t).median()), max(t)) for job, t in times.items()]
    return pd.DataFrame(found, columns=COLUMNS)


def markdown(rows: pd.DataFrame) -> str:
    """Return the medians as a table, the fastest algorithm first."""
    wide = rows.pivot(index="algorithm", columns="engine", values="median").sort_values("fused")
    lines = [["", *(f"{engine} engine" for engine in wide)], ["---"] * (1 + len(wide.columns))]
    lines += [
        [style.styles([str(n)])[str(n)].label, *(f"{t:.3g}" for t in row)]
        for n, row in zip(wide.index, wide.values, strict=True)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a measurement, about")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    given = parser.parse_args()
    rows = measure(given.repeats, given.seconds)
    frames.write(rows.round(3), given.out / "algorithms.csv")
    print(markdown(rows))


if __name__ == "__main__":
    main()
