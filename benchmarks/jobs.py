"""Measure the training job of every algorithm, on one core.

    make bench                                                        (or, where all is installed
    already,) python benchmarks/jobs.py [--repeats 3] [--out results/benchmarks]

Trained are the published cells of config/algorithms.yaml, ten runs a stack, algorithms in turn
within each repeat.
Written: algorithms.csv with microseconds per meta-iteration and run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from subjects import STACK, engines, workloads
from workers import Worker, cores, microseconds

from metabench.analysis import frames
from metabench.study import config
from metabench.study.jobs import Study
from metabench.views.drawing import style
from metabench.workflow.progress import Progress

STUDY = Study(config.load(Path(__file__).parents[1] / "config" / "algorithms.yaml"))
COLUMNS = ["algorithm", "engine", "stack", "minimum", "median", "maximum"]


def measure(repeats: int, seconds: float) -> pd.DataFrame:
    """Return a row for each algorithm that trains, by the engine that computes here."""
    settings = workloads(STUDY)
    engine = engines()[0]
    times: dict[str, list[float]] = {name: [] for name in sorted(settings)}
    with Worker(cores()[0]) as worker, Progress("measure", (repeats + 1) * len(times)) as progress:
        abouts = {}
        for name in times:
            worker.ask("make", name, f"metabench {engine}", settings[name], STACK)
            abouts[name] = worker.answer()
            progress.advance()
        for _ in range(repeats):
            for name, found in times.items():
                found.append(microseconds([worker], name, seconds, abouts[name]))
                progress.advance()
    rows = [
        (name, engine, STACK, min(t), float(pd.Series(t).median()), max(t))
        for name, t in times.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def markdown(rows: pd.DataFrame) -> str:
    """Return the medians as a table, the fastest algorithm first."""
    styles = style.styles(rows["algorithm"])
    lines = [["", "microseconds"], ["---", "---"]]
    lines += [
        [styles[row.algorithm].label, f"{row.median:.3g}"]
        for row in rows.sort_values("median").itertuples()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a measurement, about")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    given = parser.parse_args()
    rows = measure(given.repeats, given.seconds)
    frames.write(rows.round(3), given.out / "algorithms.csv")
    print(markdown(rows))


if __name__ == "__main__":
    main()
