"""From a study file to cells, jobs and their settings.

A study's cells are the products of its grids. A job is one cell and one block of seeds; its
settings are everything that its result depends on and nothing else, so that adding cells or seeds
leaves finished jobs alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import product
from math import ceil
from typing import Any, NamedTuple

from metabench.learning import algorithms, engine
from metabench.learning.algorithms.protocol import OUTER_OPTIONS, Cost, Hyperparameters
from metabench.learning.network import Network
from metabench.learning.tasks import TaskDistribution
from metabench.records.provenance import code_digest, config_digest
from metabench.study.config import (
    META_ITERATIONS,
    SEED_BLOCK,
    SEEDS,
    SETTINGS,
    CellGroup,
    ConfigError,
    EvaluateSettings,
    StudyConfig,
    TrainSettings,
    check,
    read_json,
)

BATCH = 20
"""Training jobs that one tracking job mirrors."""


@dataclass(frozen=True)
class Cell:
    """An algorithm with its hyperparameters.

    Args:
        module: The algorithm, by its name in the registry or as a file.
        hyperparameters: Its hyperparameters.
        meta_iterations: How long it trains.
        role: One of `metabench.study.config.ROLES`.
        cost: What one meta-iteration of one run spends.
    """

    module: str
    hyperparameters: Hyperparameters
    meta_iterations: int
    role: str
    cost: Cost

    @property
    def id(self) -> str:
        """A short name from the content, good for a path."""
        return config_digest([self.algorithm, self.hyperparameters.given, self.meta_iterations])[:8]

    @property
    def algorithm(self) -> str:
        """Name of the algorithm."""
        return algorithms.name(self.module)

    @property
    def steps(self) -> tuple[str, ...]:
        """The step sizes that it is evaluated with."""
        return algorithms.load(self.module).STEPS


def cells(config: StudyConfig) -> list[Cell]:
    """Return the cells of a study in the order of its file.

    Raises:
        ConfigError: A group lacks a hyperparameter or has one too many, or two cells are the same.
    """
    fixed = [
        _expand(config, group, n)
        for n, group in enumerate(config.cells)
        if group.equal_budget is None
    ]
    found = [cell for group in fixed for cell in group]
    for n, group in enumerate(config.cells):
        if group.equal_budget is not None:
            found += _expand(config, group, n, _published(found, group.equal_budget, n))
    if repeated := sum(count > 1 for count in Counter(cell.id for cell in found).values()):
        raise ConfigError(f"each cell must stand once, but {repeated} stand twice (cells)")
    return found


def _expand(
    config: StudyConfig, group: CellGroup, n: int, reference: Cell | None = None
) -> list[Cell]:
    """Return the cells of one group; `reference` is the cell whose point-gradients they may spend."""
    given = group.model_dump(include={f.name for f in fields(Hyperparameters)}, exclude_none=True)
    names, where = (
        [name for name in ("inner_step_size", "meta_step_size") if name in given],
        f"cells[{n}]",
    )
    found = []
    for point in product(*(given[name] for name in names)):
        h = Hyperparameters(**{**given, **dict(zip(names, point, strict=True))})
        cost = _cost(group.algorithm, h, config.tasks, where)
        iterations = (
            group.meta_iterations if reference is None else _equal_budget(reference, cost, where)
        )
        role = "grid" if reference is None else "equal-budget"
        found.append(Cell(group.algorithm, h, iterations or 0, role, cost))
    return (
        found
        if group.published is None
        else _mark(found, group.published.model_dump(exclude_none=True), where)
    )


def _cost(spelled: str, h: Hyperparameters, distribution: TaskDistribution, where: str) -> Cost:
    """Return what a meta-iteration spends; refuse hyperparameters that lack, are not read, or
    contradict each other.
    """
    algorithm = algorithms.name(spelled)
    try:
        module = algorithms.load(spelled)
    except ValueError as error:
        raise ConfigError(f"{error} ({where}.algorithm)") from None
    given, needed = h.given.keys(), set(module.HYPERPARAMETERS)
    options = {*module.OPTIONS, *(OUTER_OPTIONS if "meta_step_size" in needed else ())}
    allowed = ", ".join(sorted(needed)) or "none"
    for name in sorted(needed - given):
        raise ConfigError(f"{algorithm} needs {name}; its hyperparameters: {allowed} ({where})")
    for name in sorted(given - needed - options):
        also = f", and if wanted {', '.join(sorted(options))}" if options else ""
        raise ConfigError(
            f"{algorithm} does not use {name}; its hyperparameters: {allowed}{also} ({where}.{name})"
        )
    try:
        return module.cost(h, distribution)
    except ValueError as error:
        raise ConfigError(f"{error} ({where})") from None


def _equal_budget(reference: Cell, cost: Cost, where: str) -> int:
    """Return how many meta-iterations spend the point-gradients of the reference."""
    if not cost.point_gradients:
        raise ConfigError(
            f"an algorithm that spends nothing has no equal budget ({where}.equal_budget)"
        )
    iterations = reference.meta_iterations * reference.cost.point_gradients // cost.point_gradients
    if iterations > META_ITERATIONS:
        raise ConfigError(
            f"a cell has {META_ITERATIONS} meta-iterations at most, its budget is {iterations} ({where}.equal_budget)"
        )
    return iterations


def _mark(found: list[Cell], published: dict[str, float], where: str) -> list[Cell]:
    """Give the cell with the source's own values the role `published`."""
    matches = [
        all(getattr(cell.hyperparameters, k) == v for k, v in published.items()) for cell in found
    ]
    if sum(matches) != 1:
        raise ConfigError(
            f"published must name exactly one cell of the grid, but {sum(matches)} have {published} ({where}.published)"
        )
    return [
        replace(cell, role="published") if match else cell
        for cell, match in zip(found, matches, strict=True)
    ]


def _published(found: list[Cell], module: str, n: int) -> Cell:
    for cell in found:
        if cell.module == module and cell.role == "published":
            return cell
    raise ConfigError(
        f"equal_budget needs a published cell of {module}, and there is none (cells[{n}].equal_budget)"
    )


def seed_blocks(config: StudyConfig) -> list[str]:
    """Return the blocks of seeds, aligned at multiples of the block size: ``["0-9", "10-14"]``."""
    size = config.seed_block
    return [
        f"{start}-{min(start + size, config.seeds) - 1}" for start in range(0, config.seeds, size)
    ]


def seeds_of(block: str) -> tuple[int, ...]:
    """Return the seeds of a block such as ``0-9``.

    Raises:
        ValueError: It is not two whole numbers in order, or names more seeds than a job or a study
            may have.
    """
    found = re.fullmatch("(0|[1-9][0-9]{0,9})-(0|[1-9][0-9]{0,9})", block)
    first, last = map(int, found.groups()) if found else (1, 0)
    if not first <= last < min(SEEDS, first + SEED_BLOCK):
        raise ValueError(
            f"a block of seeds is spelled FIRST-LAST, for instance 0-9, has {SEED_BLOCK} seeds at most, and ends below "
            f"{SEEDS}; got {block!r:.60}"
        )
    return tuple(range(first, last + 1))


def read_settings(kind: str, text: str) -> dict[str, Any]:
    """Read settings from a command line: only what the functions below spell is accepted.

    Args:
        kind: One of `metabench.study.config.SETTINGS`.
        text: A JSON object.

    Raises:
        ConfigError: One line for each mistake.
    """
    where = "study" if kind == "study" else f"{kind} settings"
    settings = read_json(text, where)
    checked = check(SETTINGS[kind], settings, where)
    if isinstance(checked, TrainSettings | EvaluateSettings):
        h = Hyperparameters(**settings["hyperparameters"])
        _cost(checked.algorithm, h, checked.tasks, f"{where}, hyperparameters")
        _check_steps(checked, where)
    return settings


def _check_steps(settings: TrainSettings | EvaluateSettings, where: str) -> None:
    """Raise ConfigError where settings adapt with other step sizes than their algorithm asks for."""
    name, steps = algorithms.name(settings.algorithm), algorithms.load(settings.algorithm).STEPS
    if isinstance(settings, TrainSettings):
        if ("own" in steps) != (settings.validation.step_size is None):
            must = (
                "null, since its step size is its own"
                if "own" in steps
                else "a number, since it has none of its own"
            )
            raise ConfigError(f"step_size of {name} must be {must} ({where}, validation.step_size)")
    elif settings.steps != list(steps):
        found = ", ".join(settings.steps)
        raise ConfigError(
            f"{name} is evaluated with the steps {', '.join(steps)}; got {found} ({where}, steps)"
        )


def train_settings(config: StudyConfig, cell: Cell) -> dict[str, Any]:
    """Return all that the result of training a cell depends on."""
    protocol = config.protocols[config.validation.protocol]
    return {
        "study": config.study,
        "algorithm": cell.module,
        "hyperparameters": cell.hyperparameters.given,
        "meta_iterations": cell.meta_iterations,
        "tasks": config.tasks.model_dump(mode="json"),
        "network": config.network.model_dump(mode="json"),
        "validation": {
            "tasks": config.validation.tasks,
            "interval": config.validation.interval,
            "protocol": _adaptation(protocol),
            "step_size": None if "own" in cell.steps else config.evaluation.common_step_size,
        },
    }


def evaluate_settings(config: StudyConfig, cell: Cell) -> dict[str, Any]:
    """Return all that the evaluation of a trained cell depends on, its theta apart."""
    return {
        "study": config.study,
        "algorithm": cell.module,
        "hyperparameters": cell.hyperparameters.given,
        "tasks": config.tasks.model_dump(mode="json"),
        "network": config.network.model_dump(mode="json"),
        "protocols": {name: _adaptation(protocol) for name, protocol in config.protocols.items()},
        "test_tasks": config.evaluation.tasks,
        "validation_tasks": config.validation.tasks,
        "steps": list(cell.steps),
        "common_step_size": config.evaluation.common_step_size,
        "tuning_step_sizes": sorted(config.evaluation.tuning_step_sizes)
        if "tuned" in cell.steps
        else [],
        "showcase": dict(config.showcase),
    }


def baseline_settings(config: StudyConfig) -> dict[str, Any]:
    """Return all that the seedless baselines depend on."""
    return {
        "study": config.study,
        "tasks": config.tasks.model_dump(mode="json"),
        "protocols": {
            name: protocol.model_dump(mode="json") for name, protocol in config.protocols.items()
        },
        "test_tasks": config.evaluation.tasks,
        "validation_tasks": config.validation.tasks,
        "gaussian_process": config.gaussian_process.model_dump(mode="json"),
        "showcase": dict(config.showcase),
    }


def _adaptation(protocol: Any) -> dict[str, Any]:
    """Return what adaptation needs of a protocol."""
    return dict(
        protocol.model_dump(mode="json", include={"shots", "support", "updates", "queries"})
    )


def study_settings(config: StudyConfig) -> dict[str, Any]:
    """Return the whole study, for what aggregates it."""
    return config.model_dump(mode="json")


def train_code(algorithm: str) -> str:
    """Return the digest of the source that trains an algorithm."""
    return code_digest("metabench.learning.training", algorithms.module_name(algorithm))


def evaluate_code(algorithm: str) -> str:
    """Return the digest of the source that evaluates an algorithm."""
    return code_digest("metabench.learning.evaluation", algorithms.module_name(algorithm))


def baselines_code() -> str:
    """Return the digest of the source of the seedless baselines."""
    return code_digest("metabench.learning.baselines")


class Pace(NamedTuple):
    """How fast an engine works, one job on each core; fitted to the jobs of the reference run, ten
    runs a stack.
    """

    iteration: float
    """Seconds of a meta-iteration of a run besides its gradients: draws, outer update, validation.
    """
    gradient: float
    """Seconds of a gradient besides its arithmetic."""
    operations: float
    """Floating-point operations a second (see `Network.operations`)."""


PACES = {
    "fused": Pace(4e-6, 0.5e-6, 170e9),
    "torch": Pace(30e-6, 10e-6, 55e9),
    "autograd": Pace(180e-6, 30e-6, 55e9),  # torch's, whichever engine computes the rest
}
START = 2.0
"""Seconds until a job begins to compute."""
CLOSING = 45.0
"""Seconds for tables, figures and tracking of a study such as the default one."""


def expected_seconds(config: StudyConfig, cell: Cell, runs: int) -> float:
    """Estimate how long a training job takes."""
    by_autograd = cell.steps == ("own",)
    pace, (_, gradients, points) = PACES["autograd" if by_autograd else engine.name()], cell.cost
    arithmetic = points * _network(config).operations / pace.operations
    per_iteration = pace.iteration + gradients * pace.gradient + arithmetic
    return START + cell.meta_iterations * per_iteration * runs


def expected_evaluation_seconds(config: StudyConfig, cell: Cell, runs: int) -> float:
    """Estimate how long an evaluation job takes: each update adapts on the support and measures on
    the grid.
    """
    same = cell.hyperparameters.inner_step_size == config.evaluation.common_step_size
    steps = 1 if same else len(cell.steps)
    points = sum(
        p.updates * (p.shots + config.tasks.grid_points / 3) for p in config.protocols.values()
    )
    tasks = config.evaluation.tasks + config.validation.tasks
    return (
        START
        + steps
        * points
        * tasks
        * runs
        * _network(config).operations
        / PACES[engine.name()].operations
    )


def _network(config: StudyConfig) -> Network:
    return Network.of(**config.network.model_dump())


TrainJob = tuple[Cell, str]
"""A cell and a block of seeds."""


def train_jobs(config: StudyConfig) -> Iterator[TrainJob]:
    """Yield each training job: a cell and a block of seeds."""
    yield from product(cells(config), seed_blocks(config))


def batches(config: StudyConfig) -> dict[str, list[TrainJob]]:
    """Return the training jobs whose runs one tracking job mirrors, by name: `BATCH` of one
    algorithm at most.

    Getting ready to write takes as long as writing the runs of two jobs, and what is spelled for a
    shell must not be longer than 128 kB.
    """
    by_algorithm: dict[str, list[TrainJob]] = {}
    for job in train_jobs(config):
        by_algorithm.setdefault(job[0].algorithm, []).append(job)
    return {
        f"{algorithm}_{n}": jobs[n * BATCH : (n + 1) * BATCH]
        for algorithm, jobs in by_algorithm.items()
        for n in range(ceil(len(jobs) / BATCH))
    }


def summary(config: StudyConfig, cores: int) -> str:
    """Describe a study: its cells, its jobs and the minutes they are expected to take."""
    lines = [f"study {config.study}: {config.source}", ""]
    widest = max(len(cell.algorithm) for cell in cells(config))
    for cell in cells(config):
        seconds = expected_seconds(config, cell, config.seeds) + expected_evaluation_seconds(
            config, cell, config.seeds
        )
        knobs = ", ".join(
            f"{k}={v}" if isinstance(v, str) else f"{k}={v:g}"
            for k, v in cell.hyperparameters.given.items()
        )
        head = f"  {cell.algorithm:<{widest}} {cell.id}  {cell.role:<12} {cell.meta_iterations:>7} meta-iterations"
        lines.append(f"{head} {seconds / 60:5.1f} min  {knobs}")
    jobs = list(train_jobs(config))
    runs = [len(seeds_of(block)) for _, block in jobs]
    total = sum(
        expected_seconds(config, cell, n) + expected_evaluation_seconds(config, cell, n)
        for (cell, _), n in zip(jobs, runs, strict=True)
    )
    count = f"{len(cells(config))} cells, {config.seeds} seeds, {len(jobs)} training jobs and as many evaluations"
    minutes = max(1, round((total / cores + CLOSING) / 60))
    return "\n".join(
        [*lines, "", f"{count}: about {minutes} min on {cores} core{'s' * (cores > 1)}"]
    )
