"""Compare the training job with an arithmetic floor and with peers that do the same, on one core
and on all.

    make bench                                                        (or, where all is installed
    already,) python benchmarks/speed.py [--repeats 7] [--quick] [--out results/benchmarks]

Each subject trains the cell of each algorithm in benchmarks/workloads.yaml in float32, in
single-threaded processes on their own cores; "all cores" means one such process per core, each with
its own training job. Subjects are measured in turn within each repeat. Written: speed.csv with
microseconds per meta-iteration and run, provenance.json, and the figure.

A floor is the time of the matrix products alone, at the rate of a library's best product; ratios
are to the lowest. Peers (benchmarks/subjects.py) draw their random numbers in advance and do not
validate, which favours them. Each must agree with metabench after some meta-iterations, in float32
and float64; otherwise the command stops and names it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from subjects import CHECKED, PEERS, PRODUCTS, STACK, TOLERANCE, engines, peers_of, workloads
from workers import Worker, cores, microseconds, together

from metabench.learning.settings import TrainSettings
from metabench.records import provenance
from metabench.views.drawing import medium, style
from metabench.workflow.progress import Progress


class Subject(NamedTuple):
    """A subject, and its number of simultaneous runs (0 for the floor, which has none)."""

    name: str
    stack: int

    @property
    def label(self) -> str:
        """Its label."""
        return (
            self.name
            if not self.stack
            else f"{self.name}, {self.stack} run{'s' * (self.stack > 1)}"
        )


def subjects(algorithm: str) -> list[Subject]:
    """Return everything that can be measured here for an algorithm."""
    peers = [
        Subject(name, stack)
        for name, stacks in peers_of(algorithm).items()
        for stack in stacks
        if name != "jax" or find_spec("jax")
    ]
    floors = [Subject(f"floor {library}", 0) for library in PRODUCTS if find_spec(library)]
    first, *others = engines()
    ours = [first, *(others if "pytorch loop" in peers_of(algorithm) else ())]  # torch takes long
    return [*floors, *(Subject(f"metabench {engine}", STACK) for engine in ours), *peers]


def measure(
    chosen: dict[str, TrainSettings], repeats: int, seconds: float
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return all measurements in order, and the first worker's description of each subject."""
    every = cores()
    found = [(algorithm, subject) for algorithm in chosen for subject in subjects(algorithm)]
    abouts: dict[str, Any] = {}
    rows = []
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(core)) for core in every]
        with Progress("prepare and check", len(found)) as progress:
            for algorithm, subject in found:
                key = f"{algorithm}, {subject.label}"
                asked = key, subject.name, chosen[algorithm], subject.stack
                try:
                    _, answers = together(workers, "make", *asked)
                except RuntimeError as error:
                    raise SystemExit(f"speed: {subject.label}: {error}") from None
                abouts[key] = answers[0]
                progress.advance()
        modes = sorted({1, len(workers)})
        with Progress("measure", repeats * len(modes) * len(found)) as progress:
            for repeat in range(repeats):
                for threads in modes:
                    for algorithm, subject in found:
                        key = f"{algorithm}, {subject.label}"
                        time = microseconds(workers[:threads], key, seconds, abouts[key])
                        rows.append((*subject, algorithm, threads, repeat, time))
                        progress.advance()
    columns = ["subject", "stack", "algorithm", "threads", "repeat", "microseconds"]
    return pd.DataFrame(rows, columns=columns), abouts


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """Return minimum, median and maximum of each subject, and its median over the floor's and over
    the best peer's.
    """
    keys = ["algorithm", "threads", "subject", "stack"]
    times = measured.groupby(keys, sort=False)["microseconds"]
    rows = times.agg(minimum="min", median="median", maximum="max").reset_index()
    floors, peers = rows["subject"].str.startswith("floor "), rows["subject"].isin(list(PEERS))
    for column, these in {"ratio_to_floor": floors, "ratio_to_best_peer": peers}.items():
        best = rows[these].groupby(["algorithm", "threads"])["median"].min()
        rows[column] = rows["median"] / rows.set_index(["algorithm", "threads"]).index.map(best)
    first = ["subject", "algorithm", "stack", "threads"]
    return rows[first + [column for column in rows if column not in first]]


COLUMNS = {
    "metabench": Subject("metabench fused", STACK),
    "JAX": Subject("jax", STACK),
    "JAX, 1 run": Subject("jax", 1),
    "torch.func": Subject("torch.func", STACK),
    "PyTorch loop, 1 run": Subject("pytorch loop", 1),
}
"""The subjects of the table in the documentation."""


def markdown(rows: pd.DataFrame) -> str:
    """Return the medians on one core as a table with one row per algorithm."""
    rows = rows[rows["threads"] == 1].set_index(["algorithm", "subject", "stack"])
    times, to_floor = rows["median"], rows["ratio_to_floor"]
    lines = [["", *COLUMNS, "over JAX", "over the floor"], ["---", *["---:"] * (len(COLUMNS) + 2)]]
    names = list(dict.fromkeys(rows.index.get_level_values("algorithm")))
    for name in sorted(names, key=lambda name: times[name, *COLUMNS["metabench"]]):
        found = [times.get((name, *subject)) for subject in COLUMNS.values()]
        ours, jax = found[:2]
        lines.append(
            [
                style.styles([name])[name].label,
                *("" if time is None else _spelled(time) for time in found),
                "" if jax is None else f"{ours / jax:.2f}",
                f"{to_floor[name, *COLUMNS['metabench']]:.2f}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spelled(time: float) -> str:
    """Format microseconds with three digits, or as an integer."""
    return f"{time:.0f}" if time >= 100 else f"{time:.3g}"


def draw(rows: pd.DataFrame) -> Figure:
    """Draw medians with their ranges, one panel per algorithm: one core filled, all cores hollow,
    floors as lines.
    """
    names, modes = list(dict.fromkeys(rows["algorithm"])), sorted(set(rows["threads"]))
    places = {
        s: n
        for n, s in enumerate(dict.fromkeys(Subject(r.subject, r.stack) for r in rows.itertuples()))
    }
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    with medium.settings():
        height = 0.8 + lines * (0.5 + 0.16 * len(places))
        figure = Figure(figsize=(1.6 * medium.SCREEN.wide, height), layout="constrained")
        grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for axes in grid.flat[len(names) :]:
            axes.set_axis_off()
        for axes, name in zip(grid.flat, names, strict=False):
            _panel(axes, rows[rows["algorithm"] == name], places, modes)
            axes.set_title(style.styles([name])[name].label)
        grid[0, 0].set_yticks(list(places.values()), [subject.label for subject in places])
        grid[0, 0].set_ylim(len(places) - 0.5, -0.5)
        figure.supxlabel("microseconds per meta-iteration and run: median and range", fontsize=9)
        figure.legend(handles=_legend(modes), loc="outside upper center", ncols=2 * len(modes))
    return figure


def _colour(name: str) -> str:
    """Return the colour of a subject."""
    return (
        style.GREY
        if name.startswith("floor")
        else "#D55E00"
        if name.startswith("metabench")
        else "#0072B2"
    )


def _panel(axes: Axes, rows: pd.DataFrame, places: dict[Subject, int], modes: list[int]) -> None:
    for row in rows.itertuples():
        filled, colour = row.threads == modes[0], _colour(row.subject)
        place = places[Subject(row.subject, row.stack)] + (
            0 if len(modes) == 1 else -0.13 if filled else 0.13
        )
        axes.plot(
            [row.minimum, row.maximum],
            [place] * 2,
            color=colour,
            linewidth=1.2,
            solid_capstyle="butt",
        )
        axes.plot(
            row.median, place, "o", color=colour, markerfacecolor=colour if filled else "white"
        )
        if row.subject.startswith("floor") and row.ratio_to_floor == 1:
            axes.axvline(row.median, color=colour, linewidth=0.9, linestyle=_dash(filled), zorder=0)
    low, high = rows["minimum"].min() / 1.5, rows["maximum"].max() * 1.5
    axes.set(xscale="log", xlim=(low, high))
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if high / low > 100 else (1, 3), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#eeeeee")


def _dash(filled: bool) -> Any:
    return "-" if filled else (0, (3, 2))


def _legend(modes: list[int]) -> list[Line2D]:
    """Return the legend of marks and lines."""
    labels = [
        "one core" if threads == 1 else f"{threads} cores, a job on each" for threads in modes
    ]
    looks = [
        {"markerfacecolor": "#333333" if n == 0 else "white", "linestyle": _dash(n == 0)}
        for n in range(len(modes))
    ]
    common: dict[str, Any] = {"color": "#333333", "marker": "o", "linewidth": 0.9}
    return [
        Line2D([], [], label=label, **look, **common)
        for label, look in zip(labels, looks, strict=True)
    ]


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--quick", action="store_true", help="two short repeats: to see that it works"
    )
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    arguments = parser.parse_args()
    repeats, seconds = (2, 0.1) if arguments.quick else (arguments.repeats, 0.5)
    load = os.getloadavg()[0]
    if not find_spec("jax"):
        print("jax is not installed and is left out; `make bench` installs it", file=sys.stderr)
    measured, abouts = measure(workloads(), repeats, seconds)
    rows = table(measured)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(arguments.out / "speed.csv", index=False, float_format="%.4g")
    benchmark = {
        "repeats": repeats,
        "seconds": seconds,
        "load before": load,
        "jax": version("jax") if find_spec("jax") else None,
        "tolerance": {str(dtype): tolerance for dtype, tolerance in TOLERANCE.items()},
        "checked after": CHECKED,
        "subjects": abouts,
    }
    text = json.dumps(
        provenance.describe(", ".join(engines())) | {"benchmark": benchmark},
        indent=2,
        sort_keys=True,
    )
    (arguments.out / "provenance.json").write_text(text + "\n", encoding="utf-8")
    style.save(draw(rows), arguments.out / "speed")
    print(rows.to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
