"""Simulated losses of crossed seeds and tasks, with the true values of their statistics.

Truths are those of infinitely many seeds and tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from metabench.analysis import frames
from metabench.analysis.statistics.losses import ROUNDING
from metabench.learning.scores import scores

Array = NDArray[np.float64]

WORSE = (2.0, 4.0)
"""Powers of ten by which an adaptation that explodes is worse."""


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
) -> Array:
    """Return one draw of z, ``(seed, task)``."""
    seed, task, residual = np.sqrt(shares)
    shapes = (seeds, 1), (1, tasks), (seeds, tasks)
    return sum(
        s * rng.standard_normal(shape)
        for s, shape in zip((seed, task, residual), shapes, strict=True)
    )


def losses(scenario: Scenario, seeds: int, tasks: int, rng: np.random.Generator) -> Array:
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
        """Variance of the logarithm over seeds and tasks."""
        return self.seed + self.task + self.residual

    def draw(self, seeds: int, hardness: Array, rng: np.random.Generator) -> Array:
        """Return one draw of losses ``(seed, task)``, given the standard normal hardness of each
        task, ``(1, task)``.
        """
        shape = (seeds, hardness.size)
        z = self.mean + np.sqrt(self.seed) * rng.standard_normal((seeds, 1))
        z = z + np.sqrt(self.task) * hardness
        x = np.exp(z + np.sqrt(self.residual) * rng.standard_normal(shape))
        hit = rng.random(shape) < self.exploding
        return np.where(hit, x * 10 ** rng.uniform(*WORSE, shape), x)

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

    @property
    def log_score(self) -> float:
        """The mean of log(score) for infinitely many seeds and tasks, without explosions."""
        deviation = np.sqrt(self.variance)
        z = self.mean / deviation
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        return float(self.mean * ndtr(-z) - deviation * density)

    def beats(self, other: Like) -> float:
        """Return the probability of a lower loss than another's, without explosions.

        Both have the same tasks: one that is hard for one of them is hard for the other.
        """
        shared = (np.sqrt(self.task) - np.sqrt(other.task)) ** 2
        own = self.seed + other.seed + self.residual + other.residual
        return float(ndtr((other.mean - self.mean) / np.sqrt(shared + own)))

    def _score(self, by: float) -> float:
        mean, deviation = self.mean + by, np.sqrt(self.variance)
        below = np.exp(mean + self.variance / 2) * ndtr((-mean - self.variance) / deviation)
        return float(below + 1 - ndtr(-mean / deviation))


def over_zero(folder: Path) -> Iterator[tuple[str, str, Array]]:
    """Yield algorithm, protocol and losses ``(seed, task)`` of each selected cell of a study.

    The losses are over the zero predictor's, after the last update with the cell's own step size.
    """
    losses, board = (frames.read(folder, name) for name in ("tasks.parquet", "leaderboard.csv"))
    losses = losses[losses["region"] == "all"].set_index(["algorithm", "cell", "protocol"])
    losses = losses.sort_index()
    for row in board[board["selected"] & (board["step"] == "own")].itertuples():
        here = losses.loc[(row.algorithm, row.cell, row.protocol)]
        here = here[here["step"] == "own"].pivot(index="seed", columns="task", values="loss")
        zero = losses.loc[("zero", "-", row.protocol)].set_index("task")["loss"]
        yield row.algorithm, row.protocol, (here / zero).to_numpy(dtype=float)


def like(folder: Path) -> list[Like]:
    """Return simulated losses for each selected cell of a study with its own step size."""
    found = []
    for algorithm, protocol, losses in over_zero(folder):
        x = np.log(np.clip(losses, 1e-12, 1e12))
        seeds, tasks = x.shape
        residual = x - x.mean(1, keepdims=True) - x.mean(0) + x.mean()
        within = float((residual**2).sum() / ((seeds - 1) * (tasks - 1)))
        seed = max(float(x.mean(1).var(ddof=1)) - within / tasks, 0.0)
        task = max(float(x.mean(0).var(ddof=1)) - within / seeds, 0.0)
        found.append(Like(algorithm, protocol, x.mean(), seed, task, within))
    return found


def variances(folder: Path) -> list[float]:
    """Return the variance over seeds of the log of the mean score, for each cell and protocol."""
    losses = frames.read(folder, "tasks.parquet")
    losses = losses[(losses["region"] == "all") & (losses["step"] != "common")]
    zero = losses[losses["algorithm"] == "zero"].set_index(["protocol", "task"])["loss"]
    found = []
    for (*_, protocol), rows in losses.groupby(["algorithm", "cell", "protocol"], observed=True):
        here = rows.pivot(index="seed", columns="task", values="loss")
        means = scores(here.to_numpy(float), zero[protocol][here.columns].to_numpy(float)).mean(1)
        if len(means) > 1:
            found.append(float(np.log(np.maximum(means, ROUNDING)).var(ddof=1)))
    return found
