"""Estimate the time and memory of jobs from their arithmetic on this engine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from metabench.learning import engine
from metabench.learning.evaluation import CHUNK
from metabench.learning.held_out import QUARTERS
from metabench.learning.network import Network
from metabench.learning.pace import trial
from metabench.learning.randomness import BLOCK
from metabench.records.running import Running
from metabench.study.cells import Cell
from metabench.study.jobs import seeds_of
from metabench.study.protocols import regions


class Pace(NamedTuple):
    """The speed of an engine on one core of the machine of results/reference/speed.

    Fitted to its table, with ten runs per stack.
    """

    iteration: float
    """Seconds of a run's meta-iteration other than its gradients: draws, update, validation."""
    gradient: float
    """Seconds of a gradient other than its arithmetic."""
    operations: float
    """Floating-point operations per second (see `Network.operations`)."""
    trial: float
    """Seconds of the gradient of `metabench.learning.pace.trial`."""


PACES = {
    "fused": Pace(8e-6, 1.5e-6, 67e9, 0.56e-3),
    "torch": Pace(33e-6, 46e-6, 35e9, 2.9e-3),
}

SHARES = {
    "alpaca": 10.0,
    "anil": 0.3,
    "conditional_neural_process": 4.0,
    "deep_kernel": 5.0,
    "imaml": 2.0,
    "in_context_transformer": 180.0,
    "lstm": 7.5,
    "meta_curvature": 2.0,
    "mmaml": 7.0,
    "neural_process": 2.7,
    "ridge": 0.8,
    "t_net": 4.0,
    "transformer_neural_process": 70.0,
}
"""Time of an algorithm's arithmetic, as a fraction of what its gradient count suggests.

ANIL, the ridge head and ALPaCA pass the hidden layers once for all tasks. Meta-Curvature multiplies
each gradient, and T-net each layer, by matrices as large as the layers. A neural process also has
an encoder. ALPaCA and deep kernel transfer compute posteriors in float64. Autograd differentiates a
transformer, whose layers are many. An LSTM, which MMAML has too, has a cell at each query point.
The conjugate gradients of implicit MAML pass through memory, one step after the other.
"""

START = 2.0
"""Seconds until a job starts computing."""

SHORT = {"baselines": 5.0, "figures": 20.0, "report": 10.0, "track": 10.0}
"""Seconds of jobs that take about the same time in every study, by stage."""


class Tabulating(NamedTuple):
    """What the tables of a study cost. Fitted to studies with 6 to 3000 cells."""

    start: float
    """The cost of starting, whatever the study."""
    cell: float
    """The cost of a cell."""
    row: float
    """The cost of a loss after the last update, which is a row of the largest table."""
    loss: float
    """The cost of a loss after any update."""


TABLE_SECONDS = Tabulating(5.0, 0.05, 12e-6, 0)
TABLE_MEGABYTES = Tabulating(850.0, 0.1, 220e-6, 4e-6)


def training(running: Running, cell: Cell, seeds: str) -> float:
    """Return the expected seconds of a training job."""
    pace = PACES[running.engine]
    _, gradients, points = cell.cost
    arithmetic = points * _network(running, cell).operations / pace.operations
    arithmetic *= SHARES.get(cell.algorithm, 1)
    each = pace.iteration + gradients * pace.gradient + arithmetic
    return START + cell.meta_iterations * each * len(seeds_of(seeds))


def evaluation(running: Running, cell: Cell, group: str, seeds: str) -> float:
    """Return the expected seconds of an evaluation.

    Each update adapts on the support points; those measured predict on the grid.
    """
    config = running.study.config
    own = getattr(cell.hyperparameters, "inner_step_size", None)
    points = 0.0
    for protocol in running.study.groups[group].values():
        rules = set(cell.value.adaptation.rules(protocol.steps))
        if own == config.evaluation.common_step_size and "own" in rules:
            rules.discard("common")  # both rules are one computation
        predicted = len(protocol.measured) * config.tasks.grid_size / 3
        points += (protocol.updates * protocol.shots + predicted) * len(rules)
    tasks = config.evaluation.tasks + config.validation.tasks
    operations = _network(running, cell).operations * points * tasks * len(seeds_of(seeds))
    return START + operations / PACES[running.engine].operations


def tables(running: Running) -> float:
    """Return the expected seconds of the tables of a study, by one process."""
    return _tabulating(running, TABLE_SECONDS)


def tables_megabytes(running: Running) -> float:
    """Return the expected peak memory of the tables of a study, whose losses are all read."""
    return _tabulating(running, TABLE_MEGABYTES)


def _tabulating(running: Running, cost: Tabulating) -> float:
    """Return what the tables of a study cost; baselines and predictions are not counted."""
    study = running.study
    names = regions(study.config.tasks, study.protocols)
    adaptations = study.config.seeds * study.config.evaluation.tasks
    rows = losses = 0
    for cell in study.cells:
        for name, protocol in study.protocols.items():
            measured = len(names[name]) * adaptations
            rules = cell.value.adaptation.rules(protocol.steps)
            rows += measured
            losses += measured * len(protocol.measured) * len(rules)
    return cost.start + cost.cell * len(study.cells) + cost.row * rows + cost.loss * losses


class Space(NamedTuple):
    """The memory of a kind of adaptation for each simultaneously adapted task.

    Bounds on measurements at widths from 16 to 512, tight for small stacks (those of the fused
    engine are in results/reference/speed/growth.csv).
    """

    training: float
    """Networks, in validation."""
    evaluation: float
    """Networks, in evaluation."""
    layers: float
    """Values of all hidden units at the query points."""


SPACES = {
    "fused": Space(1.5, 1.5, 0),
    "torch": Space(5, 20, 10),
    "own": Space(20, 20, 10),  # an algorithm that adapts in its own way, which keeps every update
}

NUMBER = 4e-6
"""Megabytes per number in float32."""

STARTED = 330.0
"""Megabytes of a process that has imported torch."""

DRAWN = 50e-6
"""Megabytes per drawn point, in float64 and float32, including drawing."""

GRID_POINT = 8e-6
"""Megabytes per point of the query grid, of which only y is kept."""

RESULTS = 8
"""Copies of the losses while they are joined and written."""


def training_megabytes(running: Running, cell: Cell, seeds: str) -> float:
    """Return the expected peak memory of a training job.

    Each run holds the points of `BLOCK` meta-iterations, the networks of `CHUNK` tasks that are
    validated together, and those of a meta-batch.
    """
    h: Any = cell.hyperparameters
    kept = _space(running, cell).training
    if not cell.value.adaptation.plain:
        updates = running.study.protocols[running.study.config.validation.protocol].updates
        kept = max(kept, 2 * updates)
    batch, steps = getattr(h, "meta_batch_size", 0), getattr(h, "inner_steps", 0)
    queries = getattr(h, "queries", None) or 0
    drawn = getattr(h, "shots", 0) * max(1, steps) + queries
    on_grid = 0 if queries else running.study.config.tasks.grid_size
    points = BLOCK * batch * (drawn * DRAWN + on_grid * GRID_POINT)
    networks = CHUNK * kept + batch * (2 * steps + 2)
    each = points + networks * _network(running, cell).parameters * NUMBER
    return STARTED + len(seeds_of(seeds)) * each


def evaluation_megabytes(running: Running, cell: Cell, group: str, seeds: str) -> float:
    """Return the expected peak memory of an evaluation.

    Each run holds the networks of `CHUNK` tasks, their predictions after each measured update, and
    the losses of all tasks.
    """
    config, protocols = running.study.config, running.study.groups[group].values()
    space, network = _space(running, cell), _network(running, cell)
    points = max(p.queries or config.tasks.grid_size for p in protocols)
    updates = max(len(p.measured) for p in protocols)
    units = sum(network.widths[1:-1])
    predicted = points * (space.layers * units + 3 * updates)
    numbers = CHUNK * (space.evaluation * network.parameters + predicted)
    most = 1 + len(QUARTERS)  # regions
    for protocol in protocols:
        rules = cell.value.adaptation.rules(protocol.steps)
        losses = most * len(protocol.measured) * len(rules) * config.evaluation.tasks
        numbers += RESULTS * losses
    return STARTED + len(seeds_of(seeds)) * numbers * NUMBER


def _space(running: Running, cell: Cell) -> Space:
    """Return the memory of adapting with a cell's algorithm."""
    return SPACES[running.engine if cell.value.adaptation.plain else "own"]


def _network(running: Running, cell: Cell) -> Network:
    return cell.network.build(running.study.config.tasks.features)


@cache
def slowness(name: str) -> float:
    """Return this machine's time relative to `PACES`, from a trial of 50 ms.

    Args:
        name: Name of an engine; the result is 1 if it is not this process's.
    """
    if name != engine.name():
        return 1.0
    expected = PACES[name].trial
    return trial(max(5, round(0.05 / expected))) / expected


def plan(running: Running, cores: int) -> str:
    """Describe a study: its cells and predictions, its jobs and their expected minutes here.

    Raises:
        ArtifactError: A file of predictions cannot be scored.
    """
    study = running.study
    runs = {name: running.reader.answers(name).runs for name in study.predictions}
    widest = max(map(len, [*(cell.title for cell in study.cells), *runs]))
    lines = [
        f"  {cell.title:<{widest}}  {cell.role:<12} {_seconds(running, cell) / 60:5.1f} min"
        for cell in study.cells
    ]
    lines += [
        f"  {name:<{widest}}  predictions  {count or 'no'} seed{'s' * (count != 1)}"
        for name, count in runs.items()
    ]
    head = f"study {study.name}: {study.config.source}"
    jobs = {"train": len(study.train_jobs), "evaluate": len(study.evaluate_jobs)}
    seconds = sum(_seconds(running, cell) for cell in study.cells) / cores
    last = summary(running, jobs | dict.fromkeys(["tables", *SHORT], 1), seconds, cores)
    return "\n".join([head, "", *lines, "", last])


def summary(running: Running, jobs: Mapping[str, int], seconds: float, cores: int) -> str:
    """Return the counts of a study's jobs that will run, and their expected minutes here.

    Args:
        running: The study.
        jobs: Number of jobs of each stage that will run.
        seconds: Expected seconds of training and evaluation on this machine's cores.
        cores: Number of jobs that run at a time.
    """
    study = running.study
    trained, evaluated = len(study.train_jobs), len(study.evaluate_jobs)
    train, evaluate = jobs.get("train", 0), jobs.get("evaluate", 0)
    counts = f"{trained} training jobs and {evaluated} evaluations"
    if (train, evaluate) != (trained, evaluated):
        others = sum(jobs.values()) - train - evaluate
        counts = (
            f"{train} of {trained} training jobs, {evaluate} of {evaluated} evaluations, "
            f"{others} other job{'s' * (others != 1)}"
        )
    known = SHORT | {"tables": tables(running)}
    short = sum(each for stage, each in known.items() if jobs.get(stage))
    minutes = max(1, round((seconds + slowness(running.engine) * short) / 60))
    return (
        f"{len(study.cells)} cells, {study.config.seeds} seeds, {len(study.protocols)} protocols:\n"
        f"  {counts}, about {minutes} min on {cores} core{'s' * (cores > 1)}"
    )


def _seconds(running: Running, cell: Cell) -> float:
    """Return the expected seconds of a cell's jobs on this machine."""
    found = 0.0
    for seeds in running.study.blocks:
        found += training(running, cell, seeds)
        found += sum(evaluation(running, cell, group, seeds) for group in running.study.groups)
    return found * slowness(running.engine)
