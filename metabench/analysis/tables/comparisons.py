"""Paired comparisons of cells on the test bank, at each protocol's last update.

The family of tests was declared beforehand: last update, whole grid, every protocol, the published
cells of the reference, FOMAML, against each other contender and each against the best baseline.
Cells that were selected by results have a p value of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis.columns import NUMBER, TEXT, Column
from metabench.analysis.measured import Study
from metabench.analysis.selection import candidates, selection_of
from metabench.analysis.statistics import (
    attainable_p_value,
    difference_interval,
    holm,
    probability_of_improvement,
    sign_flip_p_value,
)
from metabench.records.measured import REGIONS, CellRecord

NAME = "comparisons.csv"
CAPTION = """
Pairs of cells at each protocol's last update: mean difference paired on seed and task, probability
of improvement, and the exact sign-flip test, adjusted by Holm's method within the family declared
beforehand. Differences below zero favour the first of the pair.
"""
COLUMNS = {
    "algorithm_a": Column(TEXT, "First algorithm of the pair."),
    "cell_a": Column(TEXT, "Its cell."),
    "step_a": Column(TEXT, "Its kind of step size."),
    "algorithm_b": Column(TEXT, "Second algorithm of the pair."),
    "cell_b": Column(TEXT, "Its cell."),
    "step_b": Column(TEXT, "Its kind of step size."),
    "difference": Column(
        NUMBER, "Mean of loss a - loss b, paired on seed and task; negative where a is better."
    ),
    "lower": Column(NUMBER, "Lower end of the difference's interval."),
    "upper": Column(NUMBER, "Upper end of it."),
    "probability_of_improvement": Column(NUMBER, "P(loss a < loss b) over pairs, ties one half."),
    "probability_lower": Column(NUMBER, "Lower end of its interval."),
    "probability_upper": Column(NUMBER, "Upper end of it."),
    "p_value": Column(
        NUMBER, "Exact sign-flip test on the differences of each seed, averaged over tasks."
    ),
    "p_holm": Column(
        NUMBER,
        "p_value adjusted by Holm's method within the family declared beforehand: the published "
        "FOMAML against each other algorithm and each against the best baseline, whole grid, "
        "every protocol. Empty outside the family.",
    ),
    "attainable_p": Column(NUMBER, "The least p_value this number of seeds can give."),
}

SIDES = ["algorithm_a", "cell_a", "step_a", "algorithm_b", "cell_b", "step_b"]
ORDER = [
    *SIDES,
    *("role", "protocol", "region", "update", "difference", "lower", "upper"),
    *("probability_of_improvement", "probability_lower", "probability_upper", "p_value"),
]
"""Columns before the adjustment of p values, which a study without any pair has too."""

REFERENCE = "fomaml"
"""The algorithm that all others are compared with; else the first in alphabetical order."""

ORACLE = "least-squares"
"""It knows the basis functions of the tasks, so it is never the best baseline."""


class Contender(NamedTuple):
    """One side of a comparison.

    Args:
        algorithm: Its algorithm.
        cell: Its cell.
        step: Its kind of step size.
        losses: At the last update, ``(region, seed, task)``; one seed for a seedless baseline.
    """

    algorithm: str
    cell: str
    step: str
    losses: NDArray[np.float64]


Pair = tuple[Contender, Contender]


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    rows: list[dict[str, Any]] = []
    for protocol in study.protocols:
        for role, pair in _pairs(study, protocol):
            for region in range(len(pair[0].losses)):
                rows.append(_row(study, role, protocol, region, pair))
    table = pd.DataFrame(rows, columns=ORDER)

    family = ((table["role"] == "published") & (table["region"] == "all")).to_numpy(dtype=bool)
    table["p_holm"] = np.nan
    table.loc[family, "p_holm"] = holm(table.loc[family, "p_value"].to_numpy(dtype=np.float64))
    table["attainable_p"] = attainable_p_value(study.config.seeds)
    return table.sort_values(["role", "protocol", *SIDES, "region"], ignore_index=True)


def _row(study: Study, role: str, protocol: str, region: int, pair: Pair) -> dict[str, Any]:
    """Return the comparison of a pair in one region."""
    a, b = pair
    x, y, confidence = a.losses[region], b.losses[region], study.config.statistics.confidence
    difference = difference_interval(x, y, confidence)
    probability = probability_of_improvement(x, y, confidence)
    return {
        **dict(zip(SIDES, (*a[:3], *b[:3]), strict=True)),
        "role": role,
        "protocol": protocol,
        "region": REGIONS[region],
        "update": study.protocols[protocol].updates,
        "difference": difference.estimate,
        "lower": difference.lower,
        "upper": difference.upper,
        "probability_of_improvement": probability.estimate,
        "probability_lower": probability.lower,
        "probability_upper": probability.upper,
        "p_value": sign_flip_p_value(_seed_differences(x, y)),
    }


def _seed_differences(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each seed's mean difference, ``(seed,)``; infinities give infinities."""
    with np.errstate(invalid="ignore"):
        return np.asarray((x - y).mean(-1))


def _pairs(study: Study, protocol: str) -> Iterator[tuple[str, Pair]]:
    """Yield role and the two sides of each comparison."""
    baseline = best_baseline(study, protocol)
    for role in PICKS:
        sides = _sides(study, protocol, role)
        for other in sides[1:]:
            yield role, (sides[0], other)
        for side in sides:
            yield role, (side, baseline)
    for pair in _equal_budget_pairs(study, protocol):
        yield "equal-budget", pair
    for step in ("common", "tuned"):
        for pair in _yardstick_pairs(study, protocol, step):
            yield "yardstick", pair


def contenders(study: Study) -> list[str]:
    """Return the algorithms that adapt with a step size of their own, the reference first."""
    names = {
        record.cell.algorithm
        for record in study.cells
        if "own" in record.cell.value.adaptation.steps
    }
    return sorted(names, key=lambda name: (name != REFERENCE, name))


def _sides(study: Study, protocol: str, role: str) -> list[Contender]:
    """Return the cell with a role of each contender that has one."""
    found = [PICKS[role](study, name, protocol, "own") for name in contenders(study)]
    return [side for side in found if side is not None]


def _contender(record: CellRecord, protocol: str, step: str) -> Contender:
    losses = record.losses(protocol, step)[:, -1]
    return Contender(record.head["algorithm"], record.head["cell"], step, losses)


def _published(study: Study, algorithm: str, protocol: str, step: str) -> Contender | None:
    """Return an algorithm's first published cell that adapts with a kind of step size."""
    for record in study.cells:
        named = record.cell.algorithm == algorithm and record.cell.role == "published"
        if named and step in record.steps(protocol):
            return _contender(record, protocol, step)
    return None


def _selected(study: Study, algorithm: str, protocol: str, step: str) -> Contender | None:
    """Return the cell of an algorithm that validation selects at a kind of step size."""
    if not any(step in record.steps(protocol) for record in candidates(study, algorithm)):
        return None
    found = selection_of(study, algorithm, protocol, step)
    return _contender(found.records[found.winner], protocol, step)


PICKS = {"published": _published, "selected": _selected}


def best_baseline(study: Study, protocol: str) -> Contender:
    """Return the baseline with the least mean loss on the validation bank.

    Random initialization and joint training compete at both of their steps, with their selected
    cells.
    """
    found: list[tuple[float, Contender]] = []
    for algorithm in ("joint", "random"):
        for step in ("common", "tuned"):
            side = _selected(study, algorithm, protocol, step)
            if side is not None:
                found.append((selection_of(study, algorithm, protocol, step).loss, side))
    for name, losses in study.baseline_losses(protocol):
        if name != ORACLE:
            validation = float(study.baselines[f"validation/{protocol}/{name}"][0].mean())
            found.append((validation, Contender(name, "-", "none", losses)))
    return min(found, key=lambda pair: pair[0])[1]


def _yardstick_pairs(study: Study, protocol: str, step: str) -> Iterator[Pair]:
    """Yield joint training, its published and its selected cell, against random initialization."""
    random = _selected(study, "random", protocol, step)
    if random is None:
        return
    joint: dict[str, Contender] = {}  # by cell, since the published one may be the selected one
    for pick in PICKS.values():
        side = pick(study, "joint", protocol, step)
        if side is not None:
            joint[side.cell] = side
    for side in joint.values():
        yield side, random


def _equal_budget_pairs(study: Study, protocol: str) -> Iterator[Pair]:
    """Yield published cells against each cell that was given another's budget.

    Those of the reference, and of the cell's own algorithm.
    """
    for record in study.cells:
        if record.cell.role != "equal-budget" or "own" not in record.steps(protocol):
            continue
        for algorithm in dict.fromkeys((contenders(study)[0], record.cell.algorithm)):
            other = _published(study, algorithm, protocol, "own")
            if other is not None:
                yield other, _contender(record, protocol, "own")
