"""Compare the training job with an arithmetic floor and with peers that do the same, on one core
and on all.

    make bench                                                        (or, where all is installed
    already,) python benchmarks/speed.py [--repeats 7] [--quick] [--out results/benchmarks]

Each subject trains the cell of each algorithm in benchmarks/workloads.yaml in float32, in
single-threaded processes on their own cores; "all cores" means one such process per core, each with
its own training job. A processor with AVX-512 is measured twice: with all that it can do, and on
one core with metabench, JAX and the floors held to AVX2. Subjects are measured in turn within each
repeat. Written: speed.csv with microseconds per meta-iteration and run, provenance.json, and the
figure.

A floor is the time of the matrix products alone, at the rate of a library's best product; ratios
are to the lowest. Peers (benchmarks/subjects.py) draw their random numbers in advance and do not
validate. So metabench is timed twice: the whole job, and the job at equal work. Each peer must
agree with metabench after some meta-iterations, in float32 and float64; otherwise the command stops
and names it.
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
from subjects import (
    CHECKED,
    EQUAL_WORK,
    PEERS,
    PRODUCTS,
    STACK,
    TOLERANCE,
    engines,
    peers_of,
    workloads,
)
from workers import Worker, cores, microseconds, together

from metabench.learning import engine
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
    jobs = [f"metabench {engine}" for engine in ours]
    return [*floors, *(Subject(name, STACK) for name in (*jobs, EQUAL_WORK + first)), *peers]


WIDEST, *NARROWER = [kind for kind in engine.kinds() if kind != "native"] or ["native"]
"""The vectors that this processor can compute with."""


def measure(
    chosen: dict[str, TrainSettings], repeats: int, seconds: float
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return all measurements in order, and the first worker's description of each subject."""
    every = cores()
    found = [
        (vectors, algorithm, subject)
        for vectors in (WIDEST, *NARROWER)
        for algorithm in chosen
        for subject in subjects(algorithm)
        if vectors == WIDEST or not subject.name.startswith(("pytorch", "torch"))  # they take long
    ]
    descriptions: dict[str, Any] = {}
    rows = []
    with ExitStack() as stack:
        workers = {WIDEST: [stack.enter_context(Worker(core)) for core in every]}
        workers |= {kind: [stack.enter_context(Worker(every[0], True))] for kind in NARROWER}
        with Progress("prepare and check", len(found)) as progress:
            for vectors, algorithm, subject in found:
                key = _key(vectors, algorithm, subject)
                request = key, subject.name, chosen[algorithm], subject.stack
                try:
                    _, answers = together(workers[vectors], "make", *request)
                except RuntimeError as error:
                    raise SystemExit(f"speed: {subject.label}: {error}") from None
                descriptions[key] = answers[0]
                progress.advance()
        measured = [
            (repeat, threads, *one)
            for repeat in range(repeats)
            for threads in sorted({1, len(every)})
            for one in found
            if threads <= len(workers[one[0]])
        ]
        with Progress("measure", len(measured)) as progress:
            for repeat, threads, vectors, algorithm, subject in measured:
                key = _key(vectors, algorithm, subject)
                time = microseconds(workers[vectors][:threads], key, seconds, descriptions[key])
                rows.append((vectors, *subject, algorithm, threads, repeat, time))
                progress.advance()
    columns = ["vectors", "subject", "stack", "algorithm", "threads", "repeat", "microseconds"]
    return pd.DataFrame(rows, columns=columns), descriptions


def _key(vectors: str, algorithm: str, subject: Subject) -> str:
    """Return the name of a subject in workers and provenance."""
    return f"{algorithm}, {subject.label}, {vectors}"


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """Return minimum, median and maximum of each subject, and its median over the floor's and over
    the best peer's.
    """
    keys = ["vectors", "algorithm", "threads", "subject", "stack"]
    times = measured.groupby(keys, sort=False)["microseconds"]
    rows = times.agg(minimum="min", median="median", maximum="max").reset_index()
    floors, peers = rows["subject"].str.startswith("floor "), rows["subject"].isin(list(PEERS))
    for column, these in {"ratio_to_floor": floors, "ratio_to_best_peer": peers}.items():
        best = rows[these].groupby(keys[:3])["median"].min()
        rows[column] = rows["median"] / rows.set_index(keys[:3]).index.map(best)
    first = ["vectors", "subject", "algorithm", "stack", "threads"]
    return rows[first + [column for column in rows if column not in first]]


COLUMNS = {
    "metabench": Subject("metabench fused", STACK),
    "at equal work": Subject(f"{EQUAL_WORK}fused", STACK),
    "JAX": Subject("jax", STACK),
    "JAX, 1 run": Subject("jax", 1),
    "torch.func": Subject("torch.func", STACK),
    "PyTorch loop, 1 run": Subject("pytorch loop", 1),
}
"""The subjects of the table in the documentation."""

OURS = COLUMNS["metabench"]

RATIOS = ["over JAX", "equal work over JAX", "over the floor"]


def markdown(rows: pd.DataFrame) -> str:
    """Return the medians on one core as a table with one row per algorithm.

    If there are measurements with narrower vectors, the last columns show them. Columns without any
    measurement are left out.
    """
    rows = rows[rows["threads"] == 1]
    widest, *narrower = (
        group.set_index(["algorithm", "subject", "stack"])
        for _, group in rows.groupby("vectors", sort=False)
    )
    kinds = [f"{kind.upper()}: metabench" for kind in rows["vectors"].unique()[1:]]
    head = ["", *COLUMNS, *RATIOS, *(title for kind in kinds for title in (kind, *RATIOS))]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    names = widest.index.get_level_values("algorithm").unique()
    for name in sorted(names, key=lambda name: widest["median"][name, *OURS]):
        times = [widest["median"].get((name, *subject)) for subject in COLUMNS.values()]
        line = [one_line(name), *map(_digits, times), *_ratios(widest, name)]
        for kind in narrower:
            line += [_digits(kind["median"][name, *OURS]), *_ratios(kind, name)]
        lines.append(line)
    measured = (column for column in zip(*lines, strict=True) if any(column[2:]))
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*measured, strict=True))


def one_line(algorithm: str) -> str:
    """Return the label of an algorithm, which has two lines in figures if it is long, as one."""
    return " ".join(style.styles([algorithm])[algorithm].label.split())


def _ratios(rows: pd.DataFrame, algorithm: str) -> list[str]:
    """Format metabench's time over that of JAX, the same at equal work, and over the floor."""
    names = ("metabench", "at equal work", "JAX")
    ours, equal, jax = (rows["median"].get((algorithm, *COLUMNS[name])) for name in names)
    over_jax = [f"{time / jax:.2f}" if time and jax else "" for time in (ours, equal)]
    return [*over_jax, f"{rows['ratio_to_floor'][algorithm, *OURS]:.2f}"]


def _digits(time: float | None) -> str:
    """Format microseconds with three digits, or as an integer."""
    if time is None:
        return ""
    return f"{time:.0f}" if time >= 100 else f"{time:.3g}"


def draw(rows: pd.DataFrame) -> Figure:
    """Draw medians with their ranges, one panel per algorithm: one core filled, all cores hollow,
    floors as lines. Narrower vectors are in the table alone.
    """
    rows = rows[rows["vectors"] == rows["vectors"].iloc[0]]
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
    measured, descriptions = measure(workloads(), repeats, seconds)
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
        "subjects": descriptions,
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
