"""The second level: every run has the reference's losses, up to how another processor rounds.

Rounding errors grow during training, so a run can drift apart from the reference's. Such a run is
excused if its validation losses show the drift: they start alike and separate later.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis.verification.distances import TOLERANCE, differences, distances
from metabench.analysis.verification.folders import CELL, ROW, STABLE, STATISTICS, Tables

RUN = [*ROW, "seed"]
"""The columns that identify a run under a protocol."""


def compare_runs(fresh: Tables, reference: Tables) -> pd.DataFrame:
    """Return the deviation of each run from the reference's, by cell, protocol and seed.

    Columns in addition to those of `RUN` (a baseline has the seed -1):

    - `deviation`: the median over tasks of the distance of its losses, in the region where that
      is largest;
    - `finite`: whether any of its losses in the reference is finite;
    - `drifted`: whether it is beyond the tolerance and rounding explains that: its validation
      losses drifted apart in training, or they did so from one step size to the next and it
      selected a different tuned one.
    """
    runs = _deviations(fresh, reference)
    trained = _drifted_apart(fresh, reference, "history.csv", [*CELL, "seed"])
    # Losses of different step sizes matter only where a different one was selected.
    tuned = _drifted_apart(fresh, reference, "tuning.csv", RUN) & _retuned(fresh, reference)
    explained = _among(runs, [*CELL, "seed"], trained) | _among(runs, RUN, tuned)
    return runs.assign(drifted=explained & (runs["deviation"] > TOLERANCE))


def _deviations(fresh: Tables, reference: Tables) -> pd.DataFrame:
    """Return `deviation` and `finite` of each run, as `compare_runs` describes them."""
    tasks = reference["tasks.parquet"]
    losses = tasks.assign(
        deviation=distances(fresh["tasks.parquet"]["loss"], tasks["loss"]),
        finite=tasks["loss"] < np.inf,
    )
    # Rounding can move single losses far, but not the median over tasks.
    by_region = losses.groupby([*RUN, "region"], observed=True)
    regions = by_region.agg({"deviation": "median", "finite": "any"})
    runs = regions.groupby(RUN, observed=True).max().reset_index()
    return runs.astype(dict.fromkeys(ROW, str))


def _drifted_apart(fresh: Tables, reference: Tables, name: str, run: list[str]) -> pd.Series:
    """Return for each run whether its validation losses start alike and separate later.

    The beginning is the first two: before training and after the first interval, or at the two
    smallest step sizes. A run that differs there differs by more than rounding.
    """
    known = reference[name]
    apart = distances(fresh[name]["validation_loss"], known["validation_loss"])
    paths = apart.groupby([known[key] for key in run])
    return paths.agg(lambda path: path.iloc[:2].max() <= TOLERANCE < path.max()).astype(bool)


def _retuned(fresh: Tables, reference: Tables) -> pd.Series:
    """Return for each run whether it selected a different tuned step size."""
    known = reference["tuning.csv"]
    different = fresh["tuning.csv"]["chosen"] != known["chosen"]
    return different.groupby([known[key] for key in RUN]).any()


def compare_values(fresh: Tables, reference: Tables, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the largest deviation of each column from the reference's, by cell and protocol.

    `held` says whether the tolerance applies. It applies to values that rounding barely moves:

    - the losses of each run that has not drifted apart, as in `compare_runs`;
    - the `STABLE` statistics, at every step, region and update, of cells none of whose runs has;
    - the final means of those cells, where more than a twentieth of the losses determine the mean;
    - each run's status and each cell's selection, infinitely far where they differ.

    `rows` counts the runs, or the rows of the table, behind a number.

    Args:
        fresh: Tables to be judged.
        reference: Those of the reference, with the same rows.
        runs: From `compare_runs`.
    """
    found = [
        _losses(runs),
        *_statistics(fresh, reference, runs),
        _selections(fresh, reference),
        _statuses(fresh, reference),
    ]
    order = [*ROW, "file", "column", "held"]
    return pd.concat(found, ignore_index=True).sort_values(order, ignore_index=True)


def _losses(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the largest deviation of runs; if all with losses have drifted, all are held."""
    stayed = ~runs["drifted"]
    evidence = stayed & runs["finite"]
    without_evidence = ~evidence.groupby([runs[key] for key in ROW]).transform("any")
    held = stayed | without_evidence
    return _largest(runs, runs["deviation"], held, "tasks.parquet", "loss")


def _statistics(fresh: Tables, reference: Tables, runs: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the largest distance of each statistic of the tables that have statistics."""
    stayed = ~runs["drifted"]
    whole = stayed.groupby([runs[key] for key in ROW]).all()
    found = []
    for name in ("leaderboard.csv", "adaptation.csv"):
        table = reference[name]
        complete = _among(table, ROW, whole)
        held = dict.fromkeys(STABLE, complete)
        if name == "leaderboard.csv":
            # A mean above the 95th percentile is made by fewer than a twentieth of the losses,
            # and rounding moves single losses at will.
            held["mean"] = complete & (table["mean"] <= table["p95"])
        for column in STATISTICS:
            far = distances(fresh[name][column], table[column])
            found.append(_largest(table, far, held.get(column, False), name, column))
    return found


def _selections(fresh: Tables, reference: Tables) -> pd.DataFrame:
    board = reference["leaderboard.csv"]
    far = differences(fresh["leaderboard.csv"]["selected"], board["selected"])
    return _largest(board, far, True, "leaderboard.csv", "selected")


def _statuses(fresh: Tables, reference: Tables) -> pd.DataFrame:
    """Return whether a status differs, under each protocol of the run's cell."""
    protocols = reference["leaderboard.csv"][ROW].drop_duplicates()
    new = fresh["runs.csv"].merge(protocols, on=CELL)
    known = reference["runs.csv"].merge(protocols, on=CELL)
    return _largest(known, differences(new["status"], known["status"]), True, "runs.csv", "status")


def _largest(rows: pd.DataFrame, far: pd.Series, held: Any, file: str, column: str) -> pd.DataFrame:
    """Return the largest distance in a column by cell and protocol, separately for held rows."""
    named = rows[ROW].assign(file=file, column=column, held=held, deviation=far)
    groups = named.groupby([*ROW, "file", "column", "held"])["deviation"]
    return groups.agg(rows="size", deviation="max").reset_index()


def _among(table: pd.DataFrame, keys: list[str], marked: pd.Series) -> Any:
    """Return which rows of a table have a key that is marked, ``(row,)``."""
    return pd.MultiIndex.from_frame(table[keys]).isin(marked.index[marked])
