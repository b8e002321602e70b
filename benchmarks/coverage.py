"""Print the coverage of the intervals of `metabench.analysis.statistics` on simulated crossed
losses.

    loss[s, t] = exp(z[s, t])  or  10 + z[s, t],   z = seed_s + task_t + residual_st,   all normal,
    Var(z) = 1

The true value is that of infinitely many seeds and tasks. Each number is the percentage of
replications whose 95% interval contains it; its standard error at 1000 replications is 0.7.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py
    OMP_NUM_THREADS=1 python benchmarks/coverage.py --like results/reference/algorithms/tables

The second command simulates losses like those of a study: with each selected cell's variances of
log(loss / zero predictor's loss) over seeds, tasks and both, and the same with two adaptations in
ten thousand that are a hundred to ten thousand times worse. It then prints how often the interval
of a rank contains the rank for infinitely many seeds and tasks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from metabench.analysis import frames
from metabench.analysis.statistics.estimates import iqm, median, p95
from metabench.analysis.statistics.intervals import Interval, crossed_interval, mean_interval
from metabench.analysis.statistics.pairs import (
    difference_interval,
    probability_of_improvement,
    ratio_interval,
)
from metabench.analysis.statistics.ranking import ranked, ranks
from metabench.analysis.statistics.resampling import Resamples, resamples
from metabench.learning.scores import scores

SCALES = ("raw", "log")
STATISTICS = {"median": median, "iqm": iqm, "p95": p95}
CHANCES = (0.5, 0.8, 0.95)


class Scenario(NamedTuple):
    """Shares of variance of seeds, tasks and residuals; whether losses are lognormal; probability
    that a seed diverges.
    """

    name: str
    shares: tuple[float, float, float]
    lognormal: bool = False
    diverging: float = 0.0


SCENARIOS = (
    Scenario("normal, seeds dominate", (0.8, 0.1, 0.1)),
    Scenario("normal, balanced", (1 / 3, 1 / 3, 1 / 3)),
    Scenario("normal, tasks dominate", (0.05, 0.9, 0.05)),
    Scenario("normal, residual only", (0.0, 0.0, 1.0)),
    Scenario("lognormal, seeds dominate", (0.8, 0.1, 0.1), lognormal=True),
    Scenario("lognormal, balanced", (1 / 3, 1 / 3, 1 / 3), lognormal=True),
    Scenario("lognormal, tasks dominate", (0.05, 0.8, 0.15), lognormal=True),
    Scenario(
        "lognormal, balanced, 10% of seeds diverge",
        (1 / 3, 1 / 3, 1 / 3),
        lognormal=True,
        diverging=0.1,
    ),
)


def normal(
    shares: tuple[float, float, float], seeds: int, tasks: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return one draw of z, ``(seed, task)``."""
    seed, task, residual = np.sqrt(shares)
    shapes = (seeds, 1), (1, tasks), (seeds, tasks)
    return sum(
        s * rng.standard_normal(shape)
        for s, shape in zip((seed, task, residual), shapes, strict=True)
    )


def losses(
    scenario: Scenario, seeds: int, tasks: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return one draw of losses ``(seed, task)``, rows of diverged seeds inf."""
    z = normal(scenario.shares, seeds, tasks, rng)
    x = np.exp(z) if scenario.lognormal else 10 + z
    return np.where(rng.random((seeds, 1)) < scenario.diverging, np.inf, x)


def truth(scenario: Scenario, statistic: str) -> float:
    """Return the statistic for infinitely many seeds and tasks."""
    finite = 1 - scenario.diverging
    if statistic == "mean":
        return np.inf if finite < 1 else np.exp(0.5) if scenario.lognormal else 10.0
    low, high = {"median": (0.5, 0.5), "iqm": (0.25, 0.75), "p95": (0.95, 0.95)}[statistic]
    if high >= finite:
        return np.inf
    a, b = ndtri(low / finite), ndtri(high / finite)
    if low == high:
        return float(np.exp(a) if scenario.lognormal else 10 + a)
    return (
        float(np.exp(0.5) * (ndtr(b - 1) - ndtr(a - 1)) / (ndtr(b) - ndtr(a)))
        if scenario.lognormal
        else 10.0
    )


def intervals(x: NDArray[np.float64], draws: Resamples) -> Iterator[tuple[str, str, Interval]]:
    """Yield (statistic, scale, interval) of every statistic on every scale."""
    for scale in SCALES:
        yield "mean", scale, mean_interval(x, scale=scale)
        for name, statistic in STATISTICS.items():
            yield name, scale, crossed_interval(statistic, x, draws, scale=scale)


def coverage(
    scenario: Scenario, seeds: int, args: argparse.Namespace
) -> dict[tuple[str, str], float]:
    """Return the coverage in percent for each (statistic, scale), among replications with a finite
    estimate.
    """
    rng, draws = (
        np.random.default_rng(seeds),
        resamples("coverage", seeds, args.tasks, args.resamples),
    )
    held: dict[tuple[str, str], list[bool]] = {}
    for _ in range(args.replications):
        for name, scale, (estimate, lower, upper) in intervals(
            losses(scenario, seeds, args.tasks, rng), draws
        ):
            if np.isfinite(estimate) and np.isfinite(truth(scenario, name)):
                held.setdefault((name, scale), []).append(lower <= truth(scenario, name) <= upper)
    return {column: 100 * float(np.mean(hits)) for column, hits in held.items()}


def improvement_coverage(
    scenario: Scenario, chance: float, seeds: int, args: argparse.Namespace
) -> float:
    """Return the coverage in percent if a beats a constant baseline with this probability."""
    rng, hits = np.random.default_rng(seeds), 0
    for _ in range(args.replications):
        z = normal(scenario.shares, seeds, args.tasks, rng)
        _, lower, upper = probability_of_improvement(z, np.full((1, args.tasks), ndtri(chance)))
        hits += lower <= chance <= upper
    return 100 * hits / args.replications


def print_tables(seeds: int, args: argparse.Namespace) -> None:
    """Print both tables for one number of seeds, in Markdown."""
    columns = [(name, scale) for name in ("mean", *STATISTICS) for scale in SCALES]
    print(f"\n{seeds} seeds, {args.tasks} tasks\n")
    print("| losses |", " | ".join(" ".join(column) for column in columns), "|")
    print("|---|" + "---|" * len(columns), flush=True)
    for scenario in SCENARIOS:
        found = coverage(scenario, seeds, args)
        cells = (f"{found[column]:.1f}" if column in found else "-" for column in columns)
        print(f"| {scenario.name} |", " | ".join(cells), "|", flush=True)
    print("\n| differences |", " | ".join(f"P = {chance}" for chance in CHANCES), "|")
    print("|---|" + "---|" * len(CHANCES))
    for scenario in SCENARIOS[:3]:
        cells = (f"{improvement_coverage(scenario, chance, seeds, args):.1f}" for chance in CHANCES)
        print(f"| {scenario.name} |", " | ".join(cells), "|", flush=True)


Array = NDArray[np.float64]
WORSE = (2.0, 4.0)
"""Powers of ten by which an adaptation that explodes is worse."""

EXPLODING = 2e-4
"""Share of adaptations that explode."""

LIKE = ("mean", "score", "difference", "ratio", "probability")
"""Statistics that are estimated on losses like a study's."""


class Like(NamedTuple):
    """Losses like a cell's, over the zero predictor's: exp(mean + seed + task + residual)."""

    algorithm: str
    protocol: str
    mean: float
    seed: float
    task: float
    residual: float
    exploding: float = 0.0

    @property
    def variance(self) -> float:
        """Standard deviation of the logarithm."""
        return self.seed + self.task + self.residual

    def draw(self, shape: tuple[int, int], rng: np.random.Generator, task: Array) -> Array:
        """Return one draw of losses ``(seed, task)``, given the task effects."""
        z = self.mean + np.sqrt(self.seed) * rng.standard_normal((shape[0], 1)) + task
        x = np.exp(z + np.sqrt(self.residual) * rng.standard_normal(shape))
        hit = rng.random(shape) < self.exploding
        return np.where(hit, x * 10 ** rng.uniform(*WORSE, shape), x)

    def tasks(self, count: int, rng: np.random.Generator) -> Array:
        """Return one draw of the task effects, ``(1, task)``."""
        return np.sqrt(self.task) * rng.standard_normal((1, count))

    @property
    def loss(self) -> float:
        """The mean loss for infinitely many seeds and tasks."""
        low, high = WORSE
        worse = (10**high - 10**low) / ((high - low) * np.log(10))
        return float(np.exp(self.mean + self.variance / 2)) * (1 + self.exploding * (worse - 1))

    @property
    def score(self) -> float:
        """The mean score for infinitely many seeds and tasks."""
        worse = np.mean([self._score(by * np.log(10)) for by in np.linspace(*WORSE, 1001)])
        return float((1 - self.exploding) * self._score(0) + self.exploding * worse)

    def _score(self, by: float) -> float:
        mean, deviation = self.mean + by, np.sqrt(self.variance)
        below = np.exp(mean + self.variance / 2) * ndtr((-mean - self.variance) / deviation)
        return float(below + 1 - ndtr(-mean / deviation))


def like(folder: Path) -> list[Like]:
    """Return simulated losses for each selected cell of a study with its own step size."""
    losses, board = (frames.read(folder, name) for name in ("tasks.parquet", "leaderboard.csv"))
    losses = losses[losses["region"] == "all"].set_index(["algorithm", "cell", "protocol"])
    losses = losses.sort_index()
    found = []
    for row in board[board["selected"] & (board["step"] == "own")].itertuples():
        here = losses.loc[(row.algorithm, row.cell, row.protocol)]
        here = here[here["step"] == "own"].pivot(index="seed", columns="task", values="loss")
        zero = losses.loc[("zero", "-", row.protocol)].set_index("task")["loss"]
        x = np.log(np.clip((here / zero).to_numpy(dtype=float), 1e-12, 1e12))
        seeds, tasks = x.shape
        residual = x - x.mean(1, keepdims=True) - x.mean(0) + x.mean()
        within = float((residual**2).sum() / ((seeds - 1) * (tasks - 1)))
        seed = max(float(x.mean(1).var(ddof=1)) - within / tasks, 0.0)
        task = max(float(x.mean(0).var(ddof=1)) - within / seeds, 0.0)
        found.append(Like(row.algorithm, row.protocol, x.mean(), seed, task, within))
    return found


def like_coverage(kind: Like, seeds: int, tasks: int, replications: int) -> dict[str, float]:
    """Return the coverage in percent of each interval of losses and scores.

    Differences, ratios and probabilities are between two such cells on the same tasks.
    """
    rng, hits = np.random.default_rng(seeds), dict.fromkeys(LIKE, 0)
    for _ in range(replications):
        task = kind.tasks(tasks, rng)
        x, y = (kind.draw((seeds, tasks), rng, task) for _ in range(2))
        a, b = scores(x, 1.0), scores(y, 1.0)
        found = {
            "mean": (mean_interval(x), kind.loss),
            "score": (mean_interval(a, scale="logit"), kind.score),
            "difference": (difference_interval(a, b), 0.0),
            "ratio": (ratio_interval(a, b), 1.0),
            "probability": (probability_of_improvement(x, y), 0.5),
        }
        for name, (interval, true) in found.items():
            hits[name] += interval.lower <= true <= interval.upper
    return {name: 100 * count / replications for name, count in hits.items()}


def print_like(folder: Path, args: argparse.Namespace) -> None:
    """Print the coverage on losses like those of a study, in Markdown."""
    columns = ["seeds", "tasks", "both", *LIKE, *(f"{name}, exploding" for name in LIKE)]
    print("| losses like |", " | ".join(columns), "|")
    print("|---|" + "---:|" * len(columns), flush=True)
    for kind in like(folder):
        cells = [f"{value:.2f}" for value in (kind.seed, kind.task, kind.residual)]
        for exploding in (0.0, EXPLODING):
            given = kind._replace(exploding=exploding)
            found = like_coverage(given, 10, 1000, args.replications)
            cells += [f"{found[name]:.0f}" for name in LIKE]
        print(f"| {kind.algorithm}, {kind.protocol} |", " | ".join(cells), "|", flush=True)


def rank_coverage(
    kinds: list[Like], seeds: int, tasks: int, args: argparse.Namespace
) -> NDArray[np.float64]:
    """Return how often the interval of each contender's rank contains its true rank, in percent.

    All contenders share the tasks: one that is hard for one of them is hard for all.
    """
    rng, draws = np.random.default_rng(seeds), resamples("ranks", seeds, tasks, args.resamples)
    true = ranked([kind.score for kind in kinds])
    hits = np.zeros(len(kinds))
    for _ in range(args.replications):
        hardness = rng.standard_normal((1, tasks))
        drawn = ranks(
            [
                scores(kind.draw((seeds, tasks), rng, np.sqrt(kind.task) * hardness), 1.0)
                for kind in kinds
            ],
            draws,
        )
        lower, upper = np.quantile(drawn, [0.025, 0.975], axis=0, method="nearest")
        hits += (lower <= true) & (true <= upper)
    return 100 * hits / args.replications


def print_ranks(folder: Path, args: argparse.Namespace) -> None:
    """Print the coverage of the intervals of ranks for contenders like a study's, in Markdown.

    The last row has equal contenders, each of which has the mean rank.
    """
    kinds = like(folder)
    protocols = sorted({kind.protocol for kind in kinds})
    fields = {name: [kind for kind in kinds if kind.protocol == name] for name in protocols}
    fields["all like CAVIA"] = [kind for kind in kinds if kind.algorithm == "cavia"][:1] * 10
    print("\n| contenders | how many | mean of all | least |")
    print("|---|---:|---:|---:|")
    for name, field in fields.items():
        held = rank_coverage(field, 10, 1000, args)
        worst = field[int(held.argmin())].algorithm
        print(
            f"| {name} | {len(field)} | {held.mean():.0f} | {held.min():.0f} ({worst}) |",
            flush=True,
        )


def main() -> None:
    """Parse the command line and print the tables at 5 and 10 seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--like", type=Path, help="tables of a study whose losses to simulate")
    args = parser.parse_args()
    if args.like:
        print_like(args.like, args)
        print_ranks(args.like, args)
        return
    for seeds in (5, 10):
        print_tables(seeds, args)


if __name__ == "__main__":
    main()
