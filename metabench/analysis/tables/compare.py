"""Selection of cells on the validation bank, and paired comparisons on the test bank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis.selection import leave_one_seed_out, select, selection_frequency
from metabench.analysis.statistics import (
    attainable_p_value,
    difference_interval,
    holm,
    probability_of_improvement,
    sign_flip_p_value,
)
from metabench.analysis.tables.aggregate import Study
from metabench.records.records import REGIONS, CellRecord

REFERENCE = "fomaml"
"""The algorithm that all others are compared with; where a study has none, the first in the
alphabet.
"""

ORACLE = "least-squares"
"""It knows the basis functions of the tasks, so it is never the best baseline."""


def candidates(study: Study, algorithm: str) -> list[CellRecord]:
    """Return the cells that selection chooses from: published and grid."""
    return [
        r
        for r in study.cells
        if r.cell.algorithm == algorithm and r.cell.role in ("published", "grid")
    ]


def contenders(study: Study) -> list[str]:
    """Return the algorithms that adapt in a way of their own, which the declared family of tests is
    about.
    """
    names = {record.cell.algorithm for record in study.cells if "own" in record.cell.steps}
    return sorted(names, key=lambda name: (name != REFERENCE, name))


def _algorithms(study: Study) -> list[str]:
    """Return the algorithms that have cells to choose from."""
    return sorted(
        {
            record.cell.algorithm
            for record in study.cells
            if candidates(study, record.cell.algorithm)
        }
    )


class Selection(NamedTuple):
    """What the validation bank says of one algorithm, protocol and step."""

    records: list[CellRecord]
    validation: NDArray[np.float64]
    """``(cell, seed)``."""
    diverged: NDArray[np.bool_]
    """``(cell, seed)``."""
    meta_step_size: NDArray[np.float64]
    """``(cell,)``."""

    @property
    def winner(self) -> int:
        """The selected cell's index."""
        return select(self.validation, self.diverged, self.meta_step_size)


def selection_of(study: Study, algorithm: str, protocol: str, step: str) -> Selection:
    """Collect the validation losses that choose an algorithm's cell."""
    records = candidates(study, algorithm)
    return Selection(
        records,
        np.stack([r.validation(protocol, step) for r in records]),
        np.stack([r.diverged for r in records]),
        np.array([r.cell.hyperparameters.meta_step_size for r in records]),
    )


def selection(study: Study) -> pd.DataFrame:
    """Return the table of selection: a row for each candidate, protocol and step."""
    rows: list[dict[str, Any]] = []
    for algorithm in _algorithms(study):
        for protocol in study.config.protocols:
            for step in candidates(study, algorithm)[0].steps(protocol):
                rows += _selection_rows(
                    study, selection_of(study, algorithm, protocol, step), protocol, step
                )
    return pd.DataFrame(rows).sort_values(
        ["algorithm", "protocol", "step", "cell"], ignore_index=True
    )


def _selection_rows(
    study: Study, found: Selection, protocol: str, step: str
) -> Iterator[dict[str, Any]]:
    frequency = selection_frequency(*found[1:], study.draws().seeds)
    for n, record in enumerate(found.records):
        wins = n == found.winner
        yield {
            **record.head,
            "protocol": protocol,
            "step": step,
            "validation_loss": float(np.median(found.validation[n])),
            "selected": wins,
            "frequency": frequency[n],
            "on_edge": _edges(found, n) if wins else "",
            "held_out_mean": _held_out_mean(found, protocol, step)
            if wins and len(record.seeds) > 1
            else np.nan,
        }


def _edges(found: Selection, winner: int) -> str:
    """Name the step sizes of a cell that are the least or the largest of three or more in its grid."""
    edges = []
    for name in ("inner_step_size", "meta_step_size"):
        values = sorted({getattr(r.cell.hyperparameters, name) for r in found.records})
        if len(values) > 2 and getattr(found.records[winner].cell.hyperparameters, name) in (
            values[0],
            values[-1],
        ):
            edges.append(name)
    return " ".join(edges)


def _held_out_mean(found: Selection, protocol: str, step: str) -> float:
    """Return the mean test loss of each seed under the cell that the other seeds select."""
    chosen = leave_one_seed_out(*found[1:])
    return float(
        np.mean(
            [found.records[c].losses(protocol, step)[0, -1, s].mean() for s, c in enumerate(chosen)]
        )
    )


class Contender(NamedTuple):
    """One side of a comparison."""

    algorithm: str
    cell: str
    step: str
    losses: NDArray[np.float64]
    """At the last update, ``(region, seed, task)``; one seed for a seedless baseline."""


def _contender(record: CellRecord, protocol: str, step: str) -> Contender:
    return Contender(
        record.cell.algorithm, record.cell.id, step, record.losses(protocol, step)[:, -1]
    )


def _published(study: Study, algorithm: str, protocol: str, step: str) -> Contender | None:
    found = (r for r in study.cells if r.cell.algorithm == algorithm and r.cell.role == "published")
    return next((_contender(r, protocol, step) for r in found if step in r.steps(protocol)), None)


def _selected(study: Study, algorithm: str, protocol: str, step: str) -> Contender | None:
    if not [r for r in candidates(study, algorithm) if step in r.steps(protocol)]:
        return None
    found = selection_of(study, algorithm, protocol, step)
    return _contender(found.records[found.winner], protocol, step)


def best_baseline(study: Study, protocol: str) -> Contender:
    """Return the baseline with the least mean loss on the validation bank.

    Random initialization and joint training compete at both of their steps, with their selected
    cells.
    """
    found = []
    for algorithm in ("joint", "random"):
        for step in ("common", "tuned"):
            side = _selected(study, algorithm, protocol, step)
            if side is not None:
                chosen = selection_of(study, algorithm, protocol, step)
                found.append((float(np.median(chosen.validation[chosen.winner])), side))
    for name, losses in study.baseline_losses(protocol):
        if name != ORACLE:
            validation = float(study.baselines[f"validation/{protocol}/{name}"][0].mean())
            found.append((validation, Contender(name, "-", "none", losses)))
    return min(found, key=lambda pair: pair[0])[1]


Pair = tuple[Contender, Contender]
PICKS = {"published": _published, "selected": _selected}


def _pairs(study: Study, protocol: str) -> Iterator[tuple[str, Pair]]:
    """Yield role and the two sides of each comparison."""
    baseline = best_baseline(study, protocol)
    for role, pick in PICKS.items():
        sides = [
            side
            for name in contenders(study)
            if (side := pick(study, name, protocol, "own")) is not None
        ]
        yield from ((role, (sides[0], other)) for other in sides[1:])
        yield from ((role, (side, baseline)) for side in sides)
    yield from (("equal-budget", pair) for pair in _equal_budget_pairs(study, protocol))
    for step in ("common", "tuned"):
        yield from (("yardstick", pair) for pair in _yardstick_pairs(study, protocol, step))


def _yardstick_pairs(study: Study, protocol: str, step: str) -> Iterator[Pair]:
    """Yield joint training, its published and its selected cell, against random initialization."""
    random = _selected(study, "random", protocol, step)
    sides = [pick(study, "joint", protocol, step) for pick in PICKS.values()]
    joint = {side.cell: side for side in sides if side is not None}
    if random is not None:
        yield from ((side, random) for side in joint.values())


def _equal_budget_pairs(study: Study, protocol: str) -> Iterator[Pair]:
    """Yield the published cells of the reference and of its own algorithm against each cell with an
    equal budget.
    """
    for record in study.cells:
        if record.cell.role == "equal-budget":
            for algorithm in dict.fromkeys((contenders(study)[0], record.cell.algorithm)):
                other = _published(study, algorithm, protocol, "own")
                if other is not None and "own" in record.steps(protocol):
                    yield other, _contender(record, protocol, "own")


def comparisons(study: Study) -> pd.DataFrame:
    """Return the table of paired comparisons at each protocol's last update.

    The family of tests, declared beforehand: last update, whole grid, every protocol, the published
    cells of the reference, FOMAML, against each other contender and each against the best baseline.
    Cells that were selected by results have a p value of their own.
    """
    rows: list[dict[str, Any]] = []
    for protocol in study.config.protocols:
        for role, pair in _pairs(study, protocol):
            rows += [
                _row(study, role, protocol, region, pair) for region in range(len(pair[0].losses))
            ]
    table = pd.DataFrame(rows, columns=None if rows else COMPARISON)
    family = ((table["role"] == "published") & (table["region"] == "all")).to_numpy(dtype=bool)
    table["p_holm"] = np.nan
    table.loc[family, "p_holm"] = holm(table.loc[family, "p_value"].to_numpy(dtype=np.float64))
    table["attainable_p"] = attainable_p_value(study.config.seeds)
    order = [
        "role",
        "protocol",
        "algorithm_a",
        "cell_a",
        "step_a",
        "algorithm_b",
        "cell_b",
        "step_b",
        "region",
    ]
    return table.sort_values(order, ignore_index=True)


COMPARISON = [
    *("algorithm_a", "cell_a", "step_a", "algorithm_b", "cell_b", "step_b"),
    *("role", "protocol", "region", "update", "difference", "lower", "upper"),
    *("probability_of_improvement", "probability_lower", "probability_upper", "p_value"),
]
"""Columns of a table of comparisons that has no rows: a study without any pair to compare."""


def _row(study: Study, role: str, protocol: str, region: int, pair: Pair) -> dict[str, Any]:
    a, b = pair
    x, y, confidence = a.losses[region], b.losses[region], study.config.statistics.confidence
    difference = difference_interval(x, y, confidence)
    probability = probability_of_improvement(x, y, confidence)
    return {
        **{f"{name}_a": value for name, value in zip(Contender._fields[:3], a, strict=False)},
        **{f"{name}_b": value for name, value in zip(Contender._fields[:3], b, strict=False)},
        "role": role,
        "protocol": protocol,
        "region": REGIONS[region],
        "update": study.config.protocols[protocol].updates,
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
