"""Report a comparison in plain English: what was compared, the result, and its certainty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from metabench.analysis.reduction import PRECISION
from metabench.analysis.verification.chance import ERROR, POWER, detectable_runs
from metabench.analysis.verification.compare import LEVELS, Verification
from metabench.analysis.verification.distances import TOLERANCE
from metabench.analysis.verification.folders import ROW

HEADER = [*ROW, "level", "deviation", "factor", "detectable", "drifted apart"]


def report(found: Verification, required: str) -> str:
    """Return a comparison as text, whose last line is the verdict on the required level."""
    lines = [
        *_compared(found),
        "",
        *_table(found),
        "",
        *_legend(),
        "",
        *_certainty(found),
        "",
        *_shortfalls(found, required),
        f"level reached: {found.reached or 'none'}; required: {required}",
    ]
    return "\n".join(lines)


def _compared(found: Verification) -> Iterator[str]:
    same = [name for name, identical in found.files.items() if identical]
    different = [name for name in found.files if name not in same]
    runs = int(found.cells["runs"].max())
    yield "What was compared with the reference"
    yield f"  identical files: {', '.join(same) or 'none'}"
    yield f"  files that differ: {', '.join(different) or 'none'}"
    yield (
        f"  the losses and statistics of {len(found.cells)} pairs of a cell and a protocol, "
        f"with up to {runs} runs each"
    )
    if found.reduced:
        yield (
            "  of files that differ, the reference keeps fewer digits: "
            f"deviations of their losses are accurate to {PRECISION:.2%}"
        )


def _table(found: Verification) -> Iterator[str]:
    lines = [HEADER, *(_line(row) for row in found.cells.itertuples())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(map(str.ljust, line, widths)).rstrip()


def _line(row: Any) -> list[str]:
    """Format a cell and protocol for a line."""
    losses = [_interval(row), f"{row.detectable:.3g}"] if row.detectable > 0 else ["-", "-"]
    seeds = f"{len(row.drifted.split())} of {row.runs}: {row.drifted}" if row.drifted else ""
    name = [row.algorithm, row.cell, row.protocol]
    return [*name, row.level, _percent(row.deviation), *losses, seeds]


def _legend() -> Iterator[str]:
    yield "How to read the table"
    yield "  level: the strictest that this cell reaches under this protocol, except for identical"
    yield (
        "  deviation: the largest difference in values that rounding barely moves; "
        f"up to {np.expm1(TOLERANCE):.1%} counts as rounding"
    )
    yield (
        "  factor: from the reference's losses to these, with its interval; "
        "consistent if the interval reaches 1"
    )
    yield (
        "  detectable: the smallest factor that a training with new random numbers "
        f"shows with {POWER:.0%} probability"
    )
    yield (
        "  drifted apart: runs (by seed) that started like the reference's and separated "
        "in training or tuning because of rounding"
    )


def _certainty(found: Verification) -> Iterator[str]:
    yield "Certainty"
    yield "  identical: certain; one different digit in any table fails it"
    yield (
        f"  rounding: detects a change of {np.expm1(TOLERANCE):.1%} in the losses of any run that "
        "has not drifted apart, or in the median and interquartile mean of any cell whose runs "
        "have not, and every changed status or selection; it ignores single losses"
    )
    yield (
        f"  consistent: at most {ERROR:.0%} of consistent studies fail the {found.tests} tests; "
        f"detects {_detectable(found)}"
    )


def _detectable(found: Verification) -> str:
    """Return what the third level can detect, over all cells and protocols."""
    factors = found.cells["detectable"].dropna()
    runs = int(found.cells["runs"].max())
    more = detectable_runs(runs, found.tests)
    diverging = f"{more or 'no number'} of {runs} runs that diverge where the others did not"
    if factors.empty:
        return f"{diverging}, and no factor on the losses: no cell has two runs with losses"
    return (
        f"{diverging}, and a factor on the losses of {factors.min():.3g} in the best case, "
        f"{factors.median():.3g} in the median, {factors.max():.3g} in the worst"
    )


def _shortfalls(found: Verification, required: str) -> Iterator[str]:
    """Yield a line for each file, or cell and protocol, that falls short of a level."""
    if required == LEVELS[0]:
        yield from (f"deviates: {name}" for name, same in found.files.items() if not same)
    held = found.deviations[found.deviations["held"]]
    beyond = held[held["deviation"] > TOLERANCE]
    values = {key: list(rows.itertuples()) for key, rows in beyond.groupby(ROW)}
    for row in found.short_of(required).itertuples():
        key = (row.algorithm, row.cell, row.protocol)
        reasons = [_reason(value) for value in values.get(key, [])]
        if row.consistent is False:
            reasons.append(f"losses by the factor {_interval(row)}")
        if row.consistent is False and row.diverged:
            reasons.append(f"{row.diverged:+.0f} diverged runs (p = {row.p_value:.2g})")
        yield f"deviates: {' '.join(key)}: {', '.join(reasons)}"


def _reason(value: Any) -> str:
    """Return which value is beyond the tolerance, and by how much."""
    return f"{value.file} {value.column} {_percent(value.deviation)}"


def _interval(row: Any) -> str:
    return f"{row.factor:.3g} [{row.lower:.3g}, {row.upper:.3g}]"


def _percent(deviation: float) -> str:
    # A status or selection is a word: it is infinitely far from any other.
    return "different" if np.isinf(deviation) else f"{100 * np.expm1(deviation):.2g}%"
