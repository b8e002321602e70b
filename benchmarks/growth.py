"""Measure how the cost of training grows with runs, width, shots and cores, and Snakemake's own
cost.

    make growth                                                       (or, where all is installed
    already,) python benchmarks/growth.py [--largest 1000] [--cells 10000] [--quick] [--out
    results/benchmarks]

The published cells of FOMAML and Reptile in config/flux.yaml are trained with one quantity changed,
and with tiny step sizes, so that no run diverges. Except for `runs`, a stack has ten runs. Each
point is a separate process, on one core with one thread; `cores` is the number of simultaneous
ones. If Reptile's mini-batches need a larger grid than the study's, it gets one.

Written: growth.csv with microseconds per meta-iteration and run and the most megabytes that a
process held, dag.csv with the seconds of a dry run of Snakemake for studies of more and more
cells, and the figure.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray
from subjects import STACK, engines, workloads
from workers import Worker, cores, microseconds, together

from metabench.learning.settings import TrainSettings
from metabench.study import config
from metabench.views.drawing import medium, style
from metabench.workflow.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
ALGORITHMS = ("fomaml", "reptile")
VALUES = {
    "runs": (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
    "width": (16, 32, 64, 128, 256, 512),
    "shots": (1, 2, 5, 10, 20, 50, 100),
}
GRIDS = {100: (10, 10), 1000: (10, 100), 10000: (100, 100)}
"""Numbers of inner and outer step sizes of a study with a given number of cells."""

TINY = 1e-6
"""Step sizes with which no run diverges, because the validation interval of a divergence is
computed twice.
"""

LONG = 5
"""Seconds above which a single call is enough."""

REPEATS = 5
"""Number of measurements of a shorter call, of which the median is used."""

TIMEOUT = 600


def changed(settings: TrainSettings, quantity: str, value: int) -> tuple[TrainSettings, int, int]:
    """Return settings, stack and processes with one quantity changed."""
    h: dict[str, Any] = {"meta_step_size": TINY, "inner_step_size": TINY}
    network, tasks = settings.network, settings.tasks
    if quantity == "width":
        network = network.model_copy(update={"hidden": (value,) * len(network.hidden)})
    if quantity == "shots":
        h["shots"] = value
        if settings.algorithm == "reptile":
            needed = value * settings.hyperparameters.model_dump()["inner_steps"]
            points = max(tasks.grid_points, needed)
            tasks = tasks.model_copy(update={"grid_points": points})
    update = {
        "hyperparameters": settings.hyperparameters.model_copy(update=h),
        "network": network,
        "tasks": tasks,
    }
    stack, processes = value if quantity == "runs" else STACK, value if quantity == "cores" else 1
    return settings.model_copy(update=update), stack, processes


def measure(
    settings: TrainSettings, stack: int, processes: int, seconds: float, engine: str
) -> tuple[float, float]:
    """Return microseconds per meta-iteration and run, and the peak megabytes of a process."""
    with ExitStack() as opened:
        workers = [opened.enter_context(Worker(core)) for core in cores()[:processes]]
        _, answers = together(workers, "make", "job", f"metabench {engine}", settings, stack)
        subject = answers[0]
        if subject["seconds"] > LONG and processes == 1:
            return subject["seconds"] / subject["iterations"] * 1e6, subject["megabytes"]
        times = [microseconds(workers, "job", seconds / REPEATS, subject) for _ in range(REPEATS)]
        return median(times), max(answer["megabytes"] for answer in answers)


def curves(largest: int, seconds: float, engine: str) -> pd.DataFrame:
    """Return a row for each point of each curve."""
    values = {**VALUES, "cores": tuple(range(1, len(cores()) + 1))}
    points = [
        (q, v, a) for q, found in values.items() for v in found if v <= largest for a in ALGORITHMS
    ]
    settings, rows = workloads(), []
    with Progress("growth", len(points)) as progress:
        for quantity, value, algorithm in points:
            found = measure(*changed(settings[algorithm], quantity, value), seconds, engine)
            rows.append((quantity, value, algorithm, *found))
            progress.advance()
    columns = [
        "quantity",
        "value",
        "algorithm",
        "microseconds_per_iteration_and_run",
        "peak_megabytes",
    ]
    return pd.DataFrame(rows, columns=columns)


def study(cells: int) -> dict[str, Any]:
    """Return the content of a study with a number of FOMAML cells and one block of seeds."""
    inner, outer = ([round(0.001 * n, 4) for n in range(1, count + 1)] for count in GRIDS[cells])
    content = config.read(ROOT / "config" / "flux.yaml")
    group = next(group for group in content["cells"] if group["algorithm"] == "fomaml")
    kept = {key: value for key, value in group.items() if key != "published"}
    return {
        **content,
        "study": "growth",
        "cells": [{**kept, "inner_step_size": inner, "meta_step_size": outer}],
    }


def dry_runs(most: int) -> Iterator[tuple[int, float, bool]]:
    """Yield cells, seconds of Snakemake's dry run, and whether it finished within `TIMEOUT`
    seconds.
    """
    for cells in (cells for cells in GRIDS if cells <= most):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "study.yaml"
            path.write_text(yaml.safe_dump(study(cells)), encoding="utf-8")
            line = [
                str(Path(sys.executable).parent / "snakemake"),
                "--directory",
                folder,
                "--configfile",
                str(path),
            ]
            line += ["--cores", "1", "--dry-run", "--quiet"]
            start, finished = time.perf_counter(), True
            try:
                subprocess.run(
                    line, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=True
                )
            except subprocess.TimeoutExpired:
                finished = False
            except subprocess.CalledProcessError as error:
                raise SystemExit(
                    f"growth: snakemake: {(error.stderr or error.stdout)[-500:]}"
                ) from None
            yield cells, round(time.perf_counter() - start, 1), finished


def draw(rows: pd.DataFrame, dag: pd.DataFrame) -> Figure:
    """Draw time above and memory below, a panel for each quantity, and Snakemake's cost in the
    last.
    """
    names = {
        "runs": "runs in a stack",
        "width": "hidden width",
        "shots": "shots",
        "cores": "cores, a job on each",
    }
    time_label, memory_label = "microseconds per\nmeta-iteration and run", "peak memory, MB"
    with medium.settings():
        figure = Figure(figsize=(medium.SCREEN.wide, 4), layout="constrained")
        panels = figure.subplots(2, len(names), sharey=False)
        for column, (quantity, name) in enumerate(names.items()):
            here = rows[rows["quantity"] == quantity]
            _curve(panels[0, column], here, "microseconds_per_iteration_and_run")
            panels[0, column].set_xlabel(name)
            if quantity != "cores":
                _curve(panels[1, column], here, "peak_megabytes")
                panels[1, column].set_xlabel(name)
        panels[0, 0].set_ylabel(time_label)
        panels[1, 0].set_ylabel(memory_label)
        _dag(panels[1, -1], dag)
        handles = panels[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=len(ALGORITHMS))
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    for name, look in style.styles(rows["algorithm"]).items():
        mine = rows[rows["algorithm"] == name]
        axes.plot(
            mine["value"], mine[column], color=look.colour, marker=look.marker, label=look.label
        )
    if rows["quantity"].iat[0] == "cores":
        axes.set(
            xticks=sorted(set(rows["value"])), xlim=(0.5, rows["value"].max() + 0.5), ylim=(0, None)
        )
        return
    _log_axes(axes, sorted(set(rows["value"])), rows[column].to_numpy(dtype=float))


def _log_axes(axes: Axes, values: list[int], heights: NDArray[np.float64]) -> None:
    """Make both axes logarithmic, with at most four ticks on the x axis."""
    axes.set(xscale="log")
    axes.set_xticks(values[:: -(-len(values) // 4)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    style.loss_axis(axes, "y", heights)


def _dag(axes: Axes, dag: pd.DataFrame) -> None:
    """Draw the seconds of dry runs; one that was stopped is hollow."""
    axes.plot(dag["cells"], dag["seconds"], color=style.GREY)
    for row in dag.itertuples():
        axes.plot(
            row.cells,
            row.seconds,
            "o",
            color=style.GREY,
            markerfacecolor=style.GREY if row.finished else "white",
        )
    axes.set(xlabel="cells of a study", ylabel="dry run of Snakemake, s")
    _log_axes(axes, dag["cells"].tolist(), dag["seconds"].to_numpy(dtype=float))


def main() -> None:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--largest", type=int, default=1000, help="leave out larger values of every quantity"
    )
    parser.add_argument("--cells", type=int, default=max(GRIDS), help="leave out larger studies")
    parser.add_argument("--engine", choices=engines(), default=engines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="small values only: to see that it works"
    )
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    arguments = parser.parse_args()
    largest, most, seconds = (
        (16, 100, 0.1) if arguments.quick else (arguments.largest, arguments.cells, 2)
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = curves(largest, seconds, arguments.engine)
    rows.to_csv(arguments.out / "growth.csv", index=False, float_format="%.4g")
    dag = pd.DataFrame(columns=["cells", "seconds", "finished"])
    with Progress("dry runs of Snakemake", sum(cells <= most for cells in GRIDS)) as progress:
        for row in dry_runs(most):
            dag.loc[len(dag)] = row
            progress.advance()
    dag.to_csv(arguments.out / "dag.csv", index=False)
    style.save(draw(rows, dag), arguments.out / "growth")
    print(
        rows.to_string(index=False, float_format="{:.4g}".format),
        dag.to_string(index=False),
        sep="\n\n",
    )


if __name__ == "__main__":
    main()
