"""Paired comparisons of all contenders with each other, on the test bank."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis.columns import COUNT, NUMBER, ORACLE, TEXT, Column
from metabench.analysis.measured import Study
from metabench.analysis.selection import algorithms, candidates, selection_of, step_of
from metabench.analysis.statistics.pairs import (
    detectable,
    difference_interval,
    probability_of_improvement,
    ratio_interval,
)
from metabench.learning.scores import scores
from metabench.records.measured import CellRecord

NAME = "comparisons.csv"
CAPTION = """
Pairs of contenders, matched on seed and task: mean difference and geometric ratio of their scores,
and probability of improvement, each with its interval. Differences below zero and ratios below one
favour the first of the pair. Published cells are compared after a protocol's last update, selected
ones after the number of updates that validation selects for each. Under the protocols of a grid,
on the whole domain, selected cells are compared with that of FOMAML alone (or else of the first
algorithm by name).
"""
COLUMNS = {
    "algorithm_a": Column(TEXT, "First algorithm of the pair."),
    "cell_a": Column(TEXT, "Its cell."),
    "step_a": Column(TEXT, "Its kind of step size."),
    "updates_a": Column(COUNT, "Its number of updates."),
    "algorithm_b": Column(TEXT, "Second algorithm of the pair."),
    "cell_b": Column(TEXT, "Its cell."),
    "step_b": Column(TEXT, "Its kind of step size."),
    "updates_b": Column(COUNT, "Its number of updates."),
    "difference": Column(NUMBER, "Mean of score a - score b; negative if a is better."),
    "difference_lower": Column(NUMBER, "Lower end of its interval."),
    "difference_upper": Column(NUMBER, "Upper end of its interval."),
    "ratio": Column(NUMBER, "Geometric mean of score a / score b; below 1 if a is better."),
    "ratio_lower": Column(NUMBER, "Lower end of its interval."),
    "ratio_upper": Column(NUMBER, "Upper end of its interval."),
    "probability_of_improvement": Column(NUMBER, "P(loss a < loss b) over pairs, ties one half."),
    "probability_lower": Column(NUMBER, "Lower end of its interval."),
    "probability_upper": Column(NUMBER, "Upper end of its interval."),
    "detectable": Column(
        NUMBER, "The difference that this design would detect with a probability of 80 %."
    ),
}

SIDES = ["algorithm_a", "cell_a", "step_a", "updates_a"]
SIDES += ["algorithm_b", "cell_b", "step_b", "updates_b"]
ORDER = ["role", "protocol", "region", *SIDES, *(name for name in COLUMNS if name not in SIDES)]
"""Columns, also of a study without any pair."""

REFERENCE = "fomaml"
"""The algorithm that comes first in its pairs."""


class Contender(NamedTuple):
    """One side of a comparison.

    Args:
        algorithm: Its algorithm.
        cell: Its cell.
        step: Its kind of step size.
        updates: Number of updates after which it is compared.
        losses: Its losses then, ``(region, seed, task)``; one seed for a seedless baseline.
        scores: Its scores, likewise.
    """

    algorithm: str
    cell: str
    step: str
    updates: int
    losses: NDArray[np.float64]
    scores: NDArray[np.float64]


Pair = tuple[Contender, Contender]


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    rows: list[dict[str, Any]] = []
    for protocol in study.protocols:
        single = protocol in study.single_protocols
        for role, pair in _pairs(study, protocol, single):
            for region in range(len(pair[0].losses) if single else 1):
                rows.append(_row(study, role, protocol, region, pair))
    table = pd.DataFrame(rows, columns=ORDER)
    return table.sort_values(["role", "protocol", *SIDES, "region"], ignore_index=True)


def _row(study: Study, role: str, protocol: str, region: int, pair: Pair) -> dict[str, Any]:
    """Return the comparison of a pair in one region."""
    a, b = pair
    confidence = study.config.statistics.confidence
    difference = difference_interval(a.scores[region], b.scores[region], confidence)
    ratio = ratio_interval(a.scores[region], b.scores[region], confidence)
    probability = probability_of_improvement(a.losses[region], b.losses[region], confidence)
    return {
        **dict(zip(SIDES, (*a[:4], *b[:4]), strict=True)),
        "role": role,
        "protocol": protocol,
        "region": study.regions[protocol][region],
        **_columns("difference", difference),
        **_columns("ratio", ratio),
        "probability_of_improvement": probability.estimate,
        "probability_lower": probability.lower,
        "probability_upper": probability.upper,
        "detectable": detectable(a.scores[region], b.scores[region], confidence),
    }


def _columns(name: str, interval: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_lower", f"{name}_upper"), interval, strict=True))


def _pairs(study: Study, protocol: str, single: bool) -> Iterator[tuple[str, Pair]]:
    """Yield role and the two sides of each comparison."""
    for role in PICKS:
        sides = study.once(contenders, protocol, role)
        for first, second in combinations(sides, 2):
            if single or role == "published" or first is sides[0]:
                yield role, (first, second)
    for pair in _equal_budget_pairs(study, protocol):
        yield "equal-budget", pair


def contenders(study: Study, protocol: str, role: str) -> list[Contender]:
    """Return a cell of a given role for each algorithm that has one, and all non-trivial baselines.

    An algorithm without its own step size uses the one that each run tunes on validation.
    """
    names = sorted(algorithms(study), key=lambda name: (name != REFERENCE, name))
    found = [PICKS[role](study, name, protocol) for name in names]
    known = [side for side in found if side is not None]
    if not known:
        return []
    # A pair is matched on the seeds of its first side, so what has none comes last.
    return [*known, *sorted(_entrants(study, protocol), key=lambda side: -side.losses.shape[1])]


def _entrants(study: Study, protocol: str) -> Iterator[Contender]:
    """Yield the baselines except the trivial one and the oracle, and predictions."""
    zero = study.baselines[f"test/{protocol}/zero"][:, None]
    updates = study.protocols[protocol].updates
    for head, _, losses in study.entrants(protocol):
        if head["algorithm"] not in ("zero", ORACLE):
            found = scores(losses, zero)
            yield Contender(head["algorithm"], head["cell"], "none", updates, losses, found)


def _contender(
    study: Study, record: CellRecord, protocol: str, step: str, updates: int
) -> Contender:
    name = record.head["algorithm"], record.head["cell"]
    n = study.protocols[protocol].measured.index(updates)
    losses = record.losses(protocol, step)[:, n]
    found = study.scores(record, protocol, step)[:, n]
    return Contender(*name, step, updates, losses, found)


def _published(study: Study, algorithm: str, protocol: str) -> Contender | None:
    """Return an algorithm's first published cell, after the last update."""
    for record in study.cells:
        if record.cell.algorithm == algorithm and record.cell.role == "published":
            last = study.protocols[protocol].updates
            return _contender(study, record, protocol, step_of(record, protocol), last)
    return None


def _selected(study: Study, algorithm: str, protocol: str) -> Contender | None:
    """Return the selected cell of an algorithm, after its selected number of updates."""
    first, *_ = candidates(study, algorithm)
    step = step_of(first, protocol)
    found = study.once(selection_of, algorithm, protocol, step)
    n = found.winner
    return _contender(study, found.records[n], protocol, step, int(found.updates[n]))


PICKS = {"published": _published, "selected": _selected}


def _equal_budget_pairs(study: Study, protocol: str) -> Iterator[Pair]:
    """Yield published cells paired with each cell that has another algorithm's budget.

    The published cells of the reference algorithm and of the cell's own algorithm.
    """
    for record in study.cells:
        if record.cell.role != "equal-budget" or "own" not in record.steps(protocol):
            continue
        last = study.protocols[protocol].updates
        for algorithm in dict.fromkeys((REFERENCE, record.cell.algorithm)):
            other = _published(study, algorithm, protocol)
            if other is not None:
                yield other, _contender(study, record, protocol, "own", last)
