"""Measure the coverage of the intervals of `metabench.analysis.statistics` on simulated losses.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py --out results/reference/coverage
    python tests/covered.py

The second command copies the tables into docs/statistics.md. Coverage is the percentage of
replications whose 95% interval contains the true value, which is that of infinitely many seeds and
tasks. Its standard error at 95 is 0.7 for 1000 replications and 1.5 for 200.

    statistics    mean, median, IQM and p95 of

        loss[s, t] = exp(z[s, t])  or  10 + z[s, t],   z = seed_s + task_t + residual_st,

        all normal, Var(z) = 1
    improvement   the probability of improvement on normal losses
    spread        mean score, by how much seeds differ and by how many there are
    means         mean loss in the same way, and how often it has an interval
    like          losses with the variances of each selected cell of a study, and the same with two
        adaptations in ten thousand that are a hundred to ten thousand times worse
    pairs         comparisons of each of these cells with all others
    few           comparisons of all these cells with few seeds
    resampled     scores and comparisons, where the seeds and tasks of these cells are all there are
    likelihoods   the mean negative log likelihood in the same way
    ranks         how often the interval of a rank contains the rank for infinitely many seeds and
        tasks

likelihoods needs a finished study: make benchmark STUDY=flux-noisy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import combinations, groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
import simulated
from numpy.typing import NDArray
from scipy.special import ndtri
from simulated import SCENARIOS, Like, Scenario

from metabench.analysis import measured
from metabench.analysis.statistics.estimates import iqm, median, p95
from metabench.analysis.statistics.intervals import (
    FEWEST_SEEDS,
    Interval,
    crossed_intervals,
    determined,
    mean_interval,
)
from metabench.analysis.statistics.pairs import (
    difference_interval,
    probability_of_improvement,
    ratio_interval,
)
from metabench.analysis.statistics.ranking import ranked, ranks
from metabench.analysis.statistics.resampling import Resamples, resamples
from metabench.analysis.tables import predictive
from metabench.learning.scores import scores
from metabench.records import running

Rows = Iterator[dict[str, object]]

REFERENCE = Path("results/reference")
STUDY = REFERENCE / "algorithms" / "tables"
"""The study whose losses are simulated, with its numbers of seeds and tasks."""
SEEDS, TASKS = 12, 1000
NOISY = "flux-noisy"
"""The study that has likelihoods."""

REPLICATIONS, FEWER = 1000, 200
FEW_TASKS = 200
RESAMPLES = 500
STATISTICS = {"median": median, "iqm": iqm, "p95": p95}
CHANCES = (0.5, 0.8, 0.95)
FEW = (3, 5, 10)
MANY = (12, 20)
SPREADS = (0.03, 0.1, 0.3, 0.6, 1.0, 1.5, 2.5)

EXPLODING = 2e-4
"""Share of adaptations that explode."""


def percent(hits: object) -> float:
    """Return the share of hits in percent, nan if there was nothing to hit."""
    return round(100 * float(np.mean(hits)), 1) if np.size(hits) else np.nan


def covers(interval: Interval, true: float) -> bool:
    """Return whether an interval contains the true value."""
    return bool(interval.lower <= true <= interval.upper)


def intervals(x: simulated.Array, draws: Resamples) -> Iterator[tuple[str, Interval]]:
    """Yield the name and the interval of every statistic, as the tables of a study have it."""
    if determined(x):
        yield "mean", mean_interval(x)
    yield "mean, raw scale", mean_interval(x, scale="raw")
    yield from zip(STATISTICS, crossed_intervals(list(STATISTICS.values()), x, draws), strict=True)


def statistics() -> Rows:
    """Yield the coverage of each statistic in each scenario."""
    for seeds in FEW:
        for scenario in SCENARIOS:
            yield {"losses": scenario.name, "seeds": seeds, **statistics_of(scenario, seeds)}


def statistics_of(scenario: Scenario, seeds: int) -> dict[str, float]:
    """Return the coverage of each statistic among finite estimates."""
    rng = np.random.default_rng(seeds)
    draws = resamples("coverage", seeds, FEW_TASKS, RESAMPLES)
    hits: dict[str, list[bool]] = {}
    for _ in range(REPLICATIONS):
        x = simulated.losses(scenario, seeds, FEW_TASKS, rng)
        for name, interval in intervals(x, draws):
            true = simulated.truth(scenario, name.partition(",")[0])
            if np.isfinite([interval.estimate, true]).all():
                hits.setdefault(name, []).append(covers(interval, true))
    return {column: percent(found) for column, found in hits.items()}


def improvement() -> Rows:
    """Yield the coverage of the probability of improvement over a constant baseline."""
    for seeds in FEW:
        for scenario in SCENARIOS[:3]:
            found = {f"P = {chance}": improvement_of(scenario, chance, seeds) for chance in CHANCES}
            yield {"losses": scenario.name, "seeds": seeds, **found}


def improvement_of(scenario: Scenario, chance: float, seeds: int) -> float:
    """Return the coverage if a beats the baseline with this probability."""
    rng, hits = np.random.default_rng(seeds), []
    baseline = np.full((1, FEW_TASKS), ndtri(chance))
    for _ in range(REPLICATIONS):
        z = simulated.normal(scenario.shares, seeds, FEW_TASKS, rng)
        hits.append(covers(probability_of_improvement(z, baseline), chance))
    return percent(hits)


def spread() -> Rows:
    """Yield the coverage of mean scores for each variance of the logarithm over seeds.

    `rows` is the percentage of cells and protocols of all committed studies whose mean scores vary
    no more.
    """
    tables = sorted(path.parent for path in REFERENCE.glob("*/tables/tasks.parquet"))
    occurring = np.concatenate([simulated.variances(folder) for folder in tables])
    for variance in SPREADS:
        row = {"variance over seeds": variance, "rows": percent(occurring <= variance)}
        for seeds in (*FEW, *MANY):
            row[f"{seeds} seeds"] = of_spread(variance, seeds)["score"]
        yield row


def of_means() -> Rows:
    """Yield the coverage of mean losses in the same way, and how often they have an interval."""
    for variance in SPREADS:
        row = {"variance over seeds": variance}
        for seeds in (*FEW, *MANY):
            if seeds >= FEWEST_SEEDS:
                found = of_spread(variance, seeds)
                row |= {f"{seeds} seeds": found["mean"], f"{seeds} seeds, known": found["known"]}
        yield row


@cache
def of_spread(variance: float, seeds: int) -> dict[str, float]:
    """Return the coverage of the means of losses that vary this much over seeds."""
    kind = Like("", "", mean=-5.0, seed=variance, task=1.0, residual=0.3)
    return means(kind, seeds, FEW_TASKS, REPLICATIONS)


def means(kind: Like, seeds: int, tasks: int, replications: int) -> dict[str, float]:
    """Return the coverage of the mean score and of the mean loss where it has an interval.

    `known` is the percentage of replications in which it has one.
    """
    # Rows do not share their random numbers, so their errors differ.
    rng, hits = np.random.default_rng([seeds, round(1000 * kind.seed)]), []
    for _ in range(replications):
        x = kind.draw(seeds, rng.standard_normal((1, tasks)), rng)
        score = mean_interval(scores(x, 1.0), scale="logit")
        loss = mean_interval(x)
        hits.append((covers(score, kind.score), covers(loss, kind.loss), determined(x)))
    score, loss, known = np.transpose(hits)
    return {"score": percent(score), "mean": percent(loss[known]), "known": percent(known)}


def like() -> Rows:
    """Yield the coverage on losses like those of each selected cell.

    Comparisons are between two such cells on the same tasks.
    """
    for kind in simulated.like(STUDY):
        row: dict[str, object] = {"losses like": f"{kind.algorithm}, {kind.protocol}"}
        row |= {"seeds": kind.seed, "tasks": kind.task, "both": kind.residual}
        row = {key: round(v, 2) if isinstance(v, float) else v for key, v in row.items()}
        for exploding, word in ((0.0, ""), (EXPLODING, ", exploding")):
            given = kind._replace(exploding=exploding)
            found = means(given, SEEDS, TASKS, FEWER) | comparisons(given, given, SEEDS)
            row |= {name + word: value for name, value in found.items()}
        yield row


def comparisons(a: Like, b: Like, seeds: int) -> dict[str, float]:
    """Return the coverage of each comparison of two cells on the same tasks."""
    rng, hits = np.random.default_rng(seeds), []
    # Equal cells are equal in explosions, too.
    true = (a.score - b.score, np.exp(a.log_score - b.log_score), a.beats(b))
    for _ in range(FEWER):
        hardness = rng.standard_normal((1, TASKS))
        x, y = (kind.draw(seeds, hardness, rng) for kind in (a, b))
        found = [interval(x, y) for interval in COMPARISONS.values()]
        hits.append([covers(*both) for both in zip(found, true, strict=True)])
    return {name: percent(held) for name, held in zip(COMPARISONS, np.transpose(hits), strict=True)}


def pairs() -> Rows:
    """Yield the coverage of each cell's comparisons with all others: the mean and the least."""
    found = list(of_pairs(SEEDS))
    for kind in simulated.like(STUDY):
        row = {"cell": f"{kind.algorithm}, {kind.protocol}"}
        yield row | of_all(coverage for pair, coverage in found if kind in pair)


def few() -> Rows:
    """Yield the coverage of all comparisons with few seeds: the mean and the least."""
    for seeds in FEW:
        yield {"seeds": seeds} | of_all(coverage for _, coverage in of_pairs(seeds))


def of_pairs(seeds: int) -> Iterator[tuple[tuple[Like, Like], dict[str, float]]]:
    """Yield each pair of cells of one protocol, with the coverage of their comparisons."""
    for a, b in combinations(simulated.like(STUDY), 2):
        if a.protocol == b.protocol:
            yield (a, b), comparisons(a, b, seeds)


def of_all(coverages: Iterable[dict[str, float]]) -> dict[str, object]:
    """Return the mean and the least coverage of each comparison."""
    row: dict[str, object] = {}
    for name, column in pd.DataFrame(coverages).items():
        row |= {f"{name}": round(column.mean(), 1), f"{name}, least": column.min()}
    return row


def resampled() -> Rows:
    """Yield the coverage on the selected cells' own scores: the mean and the least by protocol.

    A cell's own seeds and tasks are drawn with replacement, the same for both of a pair, so that
    the estimate of all of them is the true value. This assumes nothing about how losses are
    distributed, but takes the tails from the sample.
    """
    for protocol, field in groupby(simulated.over_zero(STUDY), key=itemgetter(1)):
        cells = {algorithm: losses for algorithm, _, losses in sorted(field, key=itemgetter(0))}
        named = {(name,): {"score": of_population(score_interval, x)} for name, x in cells.items()}
        for (a, x), (b, y) in combinations(cells.items(), 2):
            named[a, b] = {
                name: of_population(interval, x, y) for name, interval in COMPARISONS.items()
            }
        for name in ("score", *COMPARISONS):
            held = {who: found[name] for who, found in named.items() if name in found}
            least = min(held, key=held.__getitem__)
            yield {
                "protocol": protocol,
                "interval": name,
                "mean": round(float(np.mean(list(held.values()))), 1),
                "least": held[least],
                "of": " and ".join(least),
            }


def score_interval(losses: simulated.Array) -> Interval:
    """Return the mean score of losses over the zero predictor's, with its interval."""
    return mean_interval(scores(losses, 1.0), scale="logit")


COMPARISONS: dict[str, Callable[[simulated.Array, simulated.Array], Interval]] = {
    "difference": lambda x, y: difference_interval(scores(x, 1.0), scores(y, 1.0)),
    "ratio": lambda x, y: ratio_interval(scores(x, 1.0), scores(y, 1.0)),
    "probability": probability_of_improvement,
}
"""The intervals of comparisons, given losses over the zero predictor's."""


def likelihoods() -> Rows:
    """Yield the coverage of mean negative log likelihoods, for each algorithm the mean and least.

    As in `resampled`.
    """
    study = measured.read(running.read(NOISY))
    found: dict[str, list[dict[str, float]]] = {}
    for place, measures in predictive.measures(study):
        nll = measures["nll"]
        if len(nll) > 1:
            coverage = of_population(partial(mean_interval, scale="raw"), nll)
            found.setdefault(place["algorithm"], []).append({"nll": coverage})
    for algorithm, coverages in found.items():
        yield {"algorithm": algorithm, "rows": len(coverages)} | of_all(coverages)


def of_population(interval: Callable[..., Interval], *values: simulated.Array) -> float:
    """Return the coverage of an interval if values ``(seed, task)`` are all there are."""
    rng, hits = np.random.default_rng(SEEDS), []
    true = interval(*values).estimate
    seeds, tasks = values[0].shape
    for _ in range(FEWER):
        rows, columns = rng.integers(seeds, size=seeds), rng.integers(tasks, size=tasks)
        drawn = [x[np.ix_(rows, columns)] for x in values]
        hits.append(covers(interval(*drawn), true))
    return percent(hits)


def ranks_of() -> Rows:
    """Yield the coverage of the intervals of ranks for contenders like a study's.

    The last row has equal contenders, each of which has the mean rank.
    """
    kinds = simulated.like(STUDY)
    protocols = sorted({kind.protocol for kind in kinds})
    fields = {name: [kind for kind in kinds if kind.protocol == name] for name in protocols}
    fields["all like CAVIA"] = [kind for kind in kinds if kind.algorithm == "cavia"][:1] * 10
    for name, field in fields.items():
        held = rank_coverage(field)
        worst = field[int(held.argmin())].algorithm
        yield {
            "contenders": name,
            "how many": len(field),
            "mean of all": round(held.mean(), 1),
            "least": f"{held.min():.1f} ({worst})",
        }


def rank_coverage(kinds: list[Like]) -> NDArray[np.float64]:
    """Return how often the interval of each contender's rank contains its true rank, in percent.

    All contenders share the tasks: one that is hard for one of them is hard for all.
    """
    rng, draws = np.random.default_rng(SEEDS), resamples("ranks", SEEDS, TASKS, RESAMPLES)
    true = ranked([kind.score for kind in kinds])
    hits = np.zeros(len(kinds))
    for _ in range(FEWER):
        hardness = rng.standard_normal((1, TASKS))
        drawn = ranks([scores(kind.draw(SEEDS, hardness, rng), 1.0) for kind in kinds], draws)
        lower, upper = np.quantile(drawn, [0.025, 0.975], axis=0, method="nearest")
        hits += (lower <= true) & (true <= upper)
    return 100 * hits / FEWER


TABLES: dict[str, Callable[[], Rows]] = {
    "statistics": statistics,
    "improvement": improvement,
    "spread": spread,
    "means": of_means,
    "like": like,
    "pairs": pairs,
    "few": few,
    "resampled": resampled,
    "likelihoods": likelihoods,
    "ranks": ranks_of,
}


def main() -> None:
    """Parse the command line, measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.tables:
        pd.DataFrame(TABLES[name]()).to_csv(args.out / f"{name}.csv", index=False)
        print(args.out / f"{name}.csv", flush=True)


if __name__ == "__main__":
    main()
