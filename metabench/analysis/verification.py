"""Whether tables say what reference tables of the same study say, at three levels.

    identical      every file has the same bytes
    rounding       every run has the reference's losses, but for what another processor's rounding
    makes of them
    consistent     losses differ no more than those of a second training with other random numbers
    would

A level includes those below it. Losses are compared by the logarithm of their ratio on matched
(seed, task) pairs: what changes a method acts as a factor on all tasks alike. Where the tolerance
comes from and what each level can
detect: docs/statistics.md, "Verification".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit
from scipy.stats import binomtest

from metabench.analysis import frames
from metabench.analysis.statistics import (
    ROUNDING,
    Floats,
    Interval,
    difference_interval,
    with_inf_for_nan,
)
from metabench.analysis.tables import NAMES
from metabench.learning.randomness import uniforms
from metabench.records.artifacts import ArtifactError

LEVELS = ("identical", "rounding", "consistent")
"""The levels, strictest first."""

TOLERANCE = 0.005
"""Log ratio within which values agree: three times the largest in
results/reference/rounding/deviations.csv.
"""

CEILING = float(np.finfo(np.float32).max)
"""What an infinite loss counts as."""

ERROR = 0.05
"""The chance, at most, that a consistent study is not called so, over all its cells and protocols
together.
"""

POWER = 0.8
"""The chance with which a detectable change is detected."""

DRAWS = 20_000
"""Pairs of trainings that are simulated to find that change."""

CELL = ["algorithm", "cell"]
ROW = [*CELL, "protocol"]
KEYS = {
    "runs.csv": [*CELL, "seed"],
    "history.csv": [*CELL, "seed", "meta_iteration"],
    "tuning.csv": [*ROW, "seed", "step_size"],
    "tasks.parquet": [*ROW, "region", "seed", "task"],
    "leaderboard.csv": [*ROW, "step"],
    "adaptation.csv": [*ROW, "step", "region", "update"],
}
"""The tables whose values are compared, and what tells their rows; the one that lists cells and
seeds first.
"""

STABLE = ["median", "median_lower", "median_upper", "iqm", "iqm_lower", "iqm_upper"]
"""Statistics that a few losses cannot move: rounding leaves them alone where it leaves the runs
alone.
"""

STATISTICS = [*STABLE, "mean", "p95"]
NUMBERS = {
    "history.csv": ["validation_loss"],
    "tuning.csv": ["validation_loss"],
    "tasks.parquet": ["loss"],
    "leaderboard.csv": STATISTICS,
    "adaptation.csv": STATISTICS,
}
"""The numbers of these tables that are compared."""

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Verification:
    """What a comparison found.

    Args:
        files: Whether each table has the reference's bytes.
        cells: A row for each cell and protocol, as `compare` describes.
        deviations: How far each column is from the reference's, as `compare_values` describes.
        tests: How many tests share `ERROR`.
    """

    files: dict[str, bool]
    cells: pd.DataFrame
    deviations: pd.DataFrame
    tests: int

    @property
    def reached(self) -> str | None:
        """The strictest level that the whole study reaches."""
        if all(self.files.values()):
            return LEVELS[0]
        return next((level for level in LEVELS[1:] if self.short_of(level).empty), None)

    def reaches(self, level: str) -> bool:
        """Return whether the whole study reaches a level."""
        return self.reached in LEVELS[: LEVELS.index(level) + 1]

    def short_of(self, level: str) -> pd.DataFrame:
        """Return the rows of `cells` that do not reach a level; bytes are a matter of files."""
        return self.cells[~self.cells["level"].isin(LEVELS[1 : max(LEVELS.index(level), 1) + 1])]


def compare(folder: Path, reference: Path) -> Verification:
    """Compare a folder of tables with a reference of the same study and seeds.

    The columns of `Verification.cells` beside those that name the row: `level`, the strictest that
    it reaches; `runs`; `left`, the seeds of runs that rounding has led elsewhere; `deviation`, the
    largest that is held; and what `compare_losses` says.

    Raises:
        ArtifactError: A table is missing or cannot be read, or the folders are not of the same
            study and seeds.
    """
    files = {name: _digest(folder / name) == _digest(reference / name) for name in NAMES}
    fresh, known = read(folder), read(reference)
    for name in dict.fromkeys((*KEYS, *NAMES)):
        _require_same_rows(folder / name, fresh[name], known[name])
    runs = compare_runs(fresh, known)
    deviations = compare_values(fresh, known, runs)
    losses, tests = compare_losses(fresh, known)
    of_row, held = runs.groupby(ROW), deviations[deviations["held"]].groupby(ROW)
    cells = pd.DataFrame(
        {"runs": of_row.size(), "left": of_row.apply(_left), "deviation": held["deviation"].max()}
    )
    cells = cells.join(losses).reset_index()
    cells.insert(len(ROW), "level", [_level(row) for row in cells.itertuples()])
    return Verification(files, cells, deviations, tests)


def read(folder: Path) -> Tables:
    """Read all tables of a folder, rows in the order of their keys; raise as `compare` does."""
    return {name: _ordered(folder / name, frames.read(folder, name)) for name in NAMES}


def compare_runs(fresh: Tables, reference: Tables) -> pd.DataFrame:
    """Return how far each run is from the reference's: a row for each cell, protocol and seed (-1
    for a baseline).

    `deviation` is the median over tasks of the absolute log ratio of its losses, in the region
    where that is largest. `left` marks a run beyond the tolerance that rounding has led there step
    by step: its validation curve begins like the reference's and leaves it later; or its losses do
    so from one step size to the next, and it tuned another. `finite` marks those whose losses in
    the reference are not all infinite.
    """
    tasks, tuning = reference["tasks.parquet"], reference["tuning.csv"]
    losses = tasks.assign(
        deviation=_distance(fresh, reference, "tasks.parquet", "loss"),
        finite=tasks["loss"] < np.inf,
    )
    by_region = losses.groupby([*ROW, "seed", "region"], observed=True).agg(
        {"deviation": "median", "finite": "any"}
    )
    runs = (
        by_region.groupby([*ROW, "seed"], observed=True)
        .max()
        .reset_index()
        .astype(dict.fromkeys(ROW, str))
    )
    trained = _led_elsewhere(fresh, reference, "history.csv", [*CELL, "seed"])
    retuned = (
        (fresh["tuning.csv"]["chosen"] != tuning["chosen"])
        .groupby([tuning[k] for k in [*ROW, "seed"]])
        .any()
    )
    tuned = retuned & _led_elsewhere(fresh, reference, "tuning.csv", [*ROW, "seed"])
    led = _among(runs, [*CELL, "seed"], trained) | _among(runs, [*ROW, "seed"], tuned)
    return runs.assign(left=led & (runs["deviation"] > TOLERANCE))


def _led_elsewhere(fresh: Tables, reference: Tables, name: str, run: list[str]) -> pd.Series:
    """Return for each run whether its validation losses begin like the reference's and leave them
    later.

    The beginning is the first two: before training and after the first interval, or at the two
    least step sizes.
    """
    paths = _distance(fresh, reference, name, "validation_loss").groupby(
        [reference[name][k] for k in run]
    )
    return paths.agg(lambda path: path.iloc[:2].max() <= TOLERANCE < path.max()).astype(bool)


def compare_values(fresh: Tables, reference: Tables, runs: pd.DataFrame) -> pd.DataFrame:
    """Return how far each column is from the reference's at most, by cell and protocol, as an
    absolute log ratio.

    What rounding must leave alone is `held` to the tolerance:

    - the losses of each run that has not left (of all, if none with losses has stayed), as
      `compare_runs` has them;
    - of cells none of whose runs has left, `STABLE` statistics at every step, region and update,
      and final means but for those that fewer than a twentieth of their losses rule, being above
      the 95th percentile;
    - each run's status and each cell's selection, infinitely far where they are another.

    `rows` counts the runs, or the rows of the table, behind the number.

    Args:
        fresh: Tables, as `read` gives them.
        reference: Those of the reference, with the same rows.
        runs: From `compare_runs`.
    """
    row, stayed = [runs[k] for k in ROW], ~runs["left"]
    none = ~(stayed & runs["finite"]).groupby(row).transform("any")
    found = [_largest(runs, runs["deviation"], stayed | none, "tasks.parquet", "loss")]
    whole = stayed.groupby(row).all()
    for name in ("leaderboard.csv", "adaptation.csv"):
        table = reference[name]
        complete = _among(table, ROW, whole)
        held = dict.fromkeys(STABLE, complete)
        if name == "leaderboard.csv":
            held["mean"] = complete & (table["mean"] <= table["p95"])
        for column in STATISTICS:
            far = _distance(fresh, reference, name, column)
            found.append(_largest(table, far, held.get(column, False), name, column))
    board = reference["leaderboard.csv"]
    selected = _otherness(fresh["leaderboard.csv"], board, "selected")
    found.append(_largest(board, selected, True, "leaderboard.csv", "selected"))
    new, known = (
        tables["runs.csv"].merge(board[ROW].drop_duplicates(), on=CELL)
        for tables in (fresh, reference)
    )
    found.append(_largest(known, _otherness(new, known, "status"), True, "runs.csv", "status"))
    return pd.concat(found, ignore_index=True).sort_values(
        [*ROW, "file", "column", "held"], ignore_index=True
    )


def compare_losses(fresh: Tables, reference: Tables) -> tuple[pd.DataFrame, int]:
    """Return the statistical comparison of each cell and protocol, over the whole grid, and how
    many tests it makes.

    `factor`, `lower` and `upper` are `ratio_interval` of the runs that diverged on neither side,
    `detectable` is `detectable_factor` of the reference's; `diverged` says how many more runs
    diverged than there, `p_value` is `divergence_p_value` of that. It is `consistent` if the
    interval reaches into the tolerance and the p value is not too low. Baselines without seeds have
    no noise to be consistent with and are no rows.
    """
    status, known_status = (_diverged(tables["runs.csv"]) for tables in (fresh, reference))
    losses, known = (_log_losses(tables["tasks.parquet"]) for tables in (fresh, reference))
    rows = [row for row in known if row[:2] in known_status]
    tests = len(rows) + len(known_status)
    found = []
    for row in rows:
        diverged, before = status[row[:2]], known_status[row[:2]]
        paired = ~(diverged | before)
        interval = ratio_interval(losses[row][paired], known[row][paired], tests)
        more = int(diverged.sum()) - int(before.sum())
        p_value = divergence_p_value(more, len(before))
        near = interval.lower <= np.exp(TOLERANCE) and interval.upper >= np.exp(-TOLERANCE)
        shown = (
            paired.sum() > 1 or not paired.all()
        )  # a single run shows nothing, unless the others diverged
        detectable = detectable_factor(known[row][~before], tests)
        found.append(
            (
                *row,
                *interval,
                detectable,
                more,
                p_value,
                bool(near and shown and p_value > ERROR / tests),
            )
        )
    columns = [*ROW, "factor", "lower", "upper", "detectable", "diverged", "p_value", "consistent"]
    return pd.DataFrame(found, columns=columns).set_index(ROW), tests


def ratio_interval(a: Floats, b: Floats, tests: int) -> Interval:
    """Return exp(mean(a - b)) of log losses ``(run, task)`` with its interval over both, as one of
    so many tests.

    The error of the interval is `ERROR` / tests (Bonferroni). Fewer than two runs show no variance:
    0 to inf.
    """
    if len(a) < 2:
        return Interval(float(np.exp(np.mean(a - b))) if len(a) else np.nan, 0, np.inf)
    return Interval(*map(_exp, difference_interval(a, b, 1 - ERROR / tests)))


def detectable_factor(losses: Floats, tests: int) -> float:
    """Return by what factor a second training must change the losses to be told with probability
    `POWER`.

        exp(tolerance + d sqrt(2 / S) s)

    s is the standard deviation over runs of the mean log loss; both trainings have that noise, and
    tasks, the same for both, have none. d is `detectable_distance`. The factor is nan for fewer
    than two runs.

    Args:
        losses: Log losses of the reference's runs ``(run, task)``.
        tests: How many tests share `ERROR`.
    """
    runs = len(losses)
    if runs < 2:
        return np.nan
    noise = losses.mean(1).std(ddof=1) * np.sqrt(2 / runs)
    return _exp(TOLERANCE + detectable_distance(runs, tests) * noise)


@cache
def detectable_distance(runs: int, tests: int) -> float:
    """Return how many standard errors, as estimated from so many runs of the reference, a change
    must be to be told.

    The quantile `POWER`, over `DRAWS` pairs of trainings a and b with standard normal noise, of the
    distance that is just told in that pair: (t se(b - a) - mean(b - a)) / (sqrt(2 / S) s(a)), t
    being the bound of `ratio_interval`.
    """
    bound = stdtrit(runs - 1, 1 - ERROR / tests / 2)
    a, b = ndtri(uniforms("verification", "bootstrap", 0, 2 * DRAWS * runs)).reshape(2, DRAWS, runs)
    told = bound * (b - a).std(1, ddof=1) - np.sqrt(runs) * (b - a).mean(1)
    return float(np.quantile(told / (np.sqrt(2) * a.std(1, ddof=1)), POWER))


def divergence_p_value(more: int, runs: int) -> float:
    """Return the two-sided p value of `more` diverged runs than in the reference, of as many runs
    on either side.

    Where either training of a run diverges with the same chance, the difference is most variable if
    that is one half: it is then Binomial(2 runs, 1/2) - runs, whose tails bound those of every
    other chance.
    """
    return float(binomtest(runs + more, 2 * runs).pvalue)


def detectable_runs(runs: int, tests: int) -> int | None:
    """Return how many more or fewer of so many runs must diverge to be told; None if there are too
    few.
    """
    return next(
        (more for more in range(runs + 1) if divergence_p_value(more, runs) <= ERROR / tests), None
    )


def report(found: Verification, required: str) -> str:
    """Return the comparison as text: files, cells and protocols, what deviates, and in the last
    line the verdict.
    """
    same = [name for name, identical in found.files.items() if identical]
    runs = int(found.cells["runs"].max())
    lines = [
        f"identical files: {', '.join(same) or 'none'}",
        f"files that differ: {', '.join(name for name in found.files if name not in same) or 'none'}",
        "",
        *_table(found.cells),
        "",
        f"deviation: the largest of what rounding must leave alone; up to {np.expm1(TOLERANCE):.1%} is rounding",
        "led elsewhere: runs that rounding has led away step by step in training or tuning, by seed",
        f"factor: to the reference's losses, with {1 - ERROR:.0%} intervals for all {found.tests} tests together; "
        "consistent if the interval reaches 1",
        f"detectable: the factor that a training with other random numbers shows with {POWER:.0%} probability",
        f"diverged runs: {detectable_runs(runs, found.tests) or 'no number'} of {runs} more or fewer are told",
        "",
        *_shortfalls(found, required),
    ]
    return "\n".join([*lines, f"level reached: {found.reached or 'none'}; required: {required}"])


def _table(cells: pd.DataFrame) -> Iterator[str]:
    lines = [[*ROW, "level", "deviation", "factor", "detectable", "led elsewhere"]]
    for row in cells.itertuples():
        left = f"{len(row.left.split())} of {row.runs}: {row.left}" if row.left else ""
        losses = [_interval(row), f"{row.detectable:.3g}"] if row.detectable > 0 else ["-", "-"]
        lines.append(
            [
                row.algorithm,
                row.cell,
                row.protocol,
                row.level,
                _percent(row.deviation),
                *losses,
                left,
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _shortfalls(found: Verification, required: str) -> Iterator[str]:
    """Yield a line for each file, or cell and protocol, that does not reach a level: by how much,
    and where.
    """
    if required == LEVELS[0]:
        yield from (f"deviates: {name}" for name, same in found.files.items() if not same)
    beyond = found.deviations[
        found.deviations["held"] & (found.deviations["deviation"] > TOLERANCE)
    ]
    where = {key: list(rows.itertuples()) for key, rows in beyond.groupby(ROW)}
    for row in found.short_of(required).itertuples():
        key = (row.algorithm, row.cell, row.protocol)
        reasons = [
            f"{value.file} {value.column} {'another' if np.isinf(value.deviation) else _percent(value.deviation)}"
            for value in where.get(key, [])
        ]
        if row.consistent is False:
            reasons.append(f"losses by the factor {_interval(row)}")
            reasons += (
                [f"{row.diverged:+.0f} diverged runs (p = {row.p_value:.2g})"]
                if row.diverged
                else []
            )
        yield f"deviates: {' '.join(key)}: {', '.join(reasons)}"


def _interval(row: Any) -> str:
    return f"{row.factor:.3g} [{row.lower:.3g}, {row.upper:.3g}]"


def _percent(deviation: float) -> str:
    return f"{100 * np.expm1(deviation):.2g}%"


def _level(row: Any) -> str:
    """Return the strictest level that a cell reaches under a protocol, but for its bytes."""
    if row.deviation <= TOLERANCE and (not row.left or row.consistent is True):
        return "rounding"
    return "consistent" if row.consistent is True else "none"


def _left(runs: pd.DataFrame) -> str:
    return " ".join(str(seed) for seed in runs.loc[runs["left"], "seed"])


def _diverged(runs: pd.DataFrame) -> dict[tuple[str, ...], Any]:
    """Return by cell which of its runs diverged, ``(run,)``."""
    return {key: (rows["status"] == "diverged").to_numpy() for key, rows in runs.groupby(CELL)}


def _log_losses(tasks: pd.DataFrame) -> dict[tuple[str, ...], Floats]:
    """Return by cell and protocol the log losses over the whole grid, ``(run, task)``."""
    whole = tasks[tasks["region"] == "all"].groupby(ROW, observed=True)
    return {key: _log(rows["loss"]).reshape(rows["seed"].nunique(), -1) for key, rows in whole}


def _log(values: ArrayLike) -> Floats:
    """Return logarithms within those of `ROUNDING` and `CEILING`; what is missing counts as
    infinite.
    """
    return np.asarray(np.log(np.clip(with_inf_for_nan(values), ROUNDING, CEILING)))


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):  # two runs alone give bounds beyond all numbers
        return float(np.exp(value))


def _distance(fresh: Tables, reference: Tables, name: str, column: str) -> pd.Series:
    """Return the absolute log ratio of a column, row by row."""
    return pd.Series(np.abs(_log(fresh[name][column]) - _log(reference[name][column])))


def _otherness(fresh: pd.DataFrame, reference: pd.DataFrame, column: str) -> pd.Series:
    """Return infinity where a column is another, row by row, and 0 elsewhere."""
    return pd.Series(np.where(fresh[column] == reference[column], 0, np.inf))


def _largest(rows: pd.DataFrame, far: pd.Series, held: Any, file: str, column: str) -> pd.DataFrame:
    """Return the largest distance in a column by cell and protocol, of rows that are held and of
    others.
    """
    named = rows[ROW].assign(file=file, column=column, held=held, deviation=far)
    return (
        named.groupby([*ROW, "file", "column", "held"])["deviation"]
        .agg(rows="size", deviation="max")
        .reset_index()
    )


def _among(table: pd.DataFrame, keys: list[str], marked: pd.Series) -> Any:
    """Return which rows of a table have a key that is marked, ``(row,)``."""
    return pd.MultiIndex.from_frame(table[keys]).isin(marked.index[marked])


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(
            f"{path.parent} is no complete folder of tables: {path.name}: {error.strerror}"
        ) from None


def _ordered(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its rows in the order of their keys and its numbers as such, or say what
    is wrong with it.
    """
    if path.name not in KEYS:
        return table
    try:
        numbers = dict.fromkeys(NUMBERS.get(path.name, []), np.float64)
        return table.astype(numbers).sort_values(KEYS[path.name], ignore_index=True)
    except (LookupError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is not a table of a study: {error}") from None


def _require_same_rows(path: Path, table: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Refuse a table that has other columns than the reference's, or rows of other cells, seeds or
    tasks.
    """
    if list(table) != list(reference):
        raise ArtifactError(
            f"{path} has other columns than the reference: {', '.join(map(str, table))}"
        )
    keys = KEYS.get(path.name)
    if keys is None or table[keys].equals(reference[keys]):
        return
    rows, wanted = (set(t[keys].itertuples(index=False, name=None)) for t in (table, reference))
    if len(rows) != len(table):
        raise ArtifactError(f"{path} is damaged: {len(table) - len(rows)} rows are repeated")
    told = [
        f"{len(some)} rows {word}, such as {' '.join(map(str, min(some)))}"
        for word, some in (
            ("are missing", wanted - rows),
            ("are not in the reference", rows - wanted),
        )
        if some
    ]
    if told:
        raise ArtifactError(f"{path} is not of the reference's study and seeds: {'; '.join(told)}")
