"""Tidy tables of a finished study: a row is an observation, a column means what `columns` says.

The bytes are the same for the same records: sorted rows, one float format, no dates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis import frames
from metabench.analysis.tables.aggregate import Study, adaptation, final
from metabench.analysis.tables.compare import comparisons, selection
from metabench.learning.algorithms.protocol import Hyperparameters
from metabench.records import manifests, records
from metabench.records.artifacts import Header
from metabench.records.provenance import code_digest, made_from
from metabench.records.records import COST_COLUMNS, REGIONS, CellRecord, Paths
from metabench.study import plans
from metabench.study.config import StudyConfig

NAMES = (
    "adaptation.csv",
    "cells.csv",
    "comparisons.csv",
    "curves.parquet",
    "history.csv",
    "leaderboard.csv",
    "points.csv",
    "runs.csv",
    "selection.csv",
    "showcase.csv",
    "tasks.parquet",
    "tuning.csv",
)
"""The files of a study's table folder."""


PACKAGES = ("torch", "numpy", "scipy", "pandas", "pyarrow")
"""The packages on whose version the bytes of a table may depend."""


def header(config: StudyConfig, contents: str) -> Header:
    """Return what a study's tables are made from; `contents` is
    `metabench.records.records.contents` of its records.
    """
    return made_from(
        "tables",
        plans.study_settings(config),
        code_digest("metabench.analysis.tables"),
        PACKAGES,
        records=contents,
    )


def read_study(root: Path, config: StudyConfig) -> Study:
    """Read all records of a study.

    Raises:
        ArtifactError: A record is missing, damaged, or made from other settings, source or
            versions.
    """
    paths = Paths(root)
    cells = [records.read_cell(paths, config, cell) for cell in plans.cells(config)]
    return Study(
        config, cells, records.read_baselines(paths, config), records.contents(paths, config)
    )


def write_all(study: Study, folder: Path, advance: Callable[[], None] = lambda: None) -> None:
    """Compute every table of a study and write it, and last of all their manifest.

    Args:
        study: The records.
        folder: Where to write.
        advance: Called after each table.
    """
    adapted = adaptation(study)
    chosen = selection(study)
    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "adaptation.csv": lambda: adapted,
        "cells.csv": lambda: cells(study),
        "comparisons.csv": lambda: comparisons(study),
        "curves.parquet": lambda: _join(
            records.curves(r, list(study.config.protocols)) for r in study.cells
        ),
        "history.csv": lambda: _join(records.history(r) for r in study.cells),
        "leaderboard.csv": lambda: leaderboard(study, adapted, chosen),
        "points.csv": lambda: points(study),
        "runs.csv": lambda: runs(study),
        "selection.csv": lambda: chosen,
        "showcase.csv": lambda: showcase(study),
        "tasks.parquet": lambda: task_losses(study),
        "tuning.csv": lambda: tuning(study),
    }
    for name, build in tables.items():
        frames.write(build(), folder / name)
        advance()
    manifests.write(folder, tables, header(study.config, study.contents))


def edge_warnings(folder: Path) -> list[str]:
    """Return a line for each selected cell on an edge of its grid, beyond which a better one may
    lie.
    """
    chosen = frames.read(folder, "selection.csv")
    return [
        f"warning: {row.algorithm} under {row.protocol} ({row.step} step) selects {row.cell}, on the edge of its grid "
        f"in {str(row.on_edge).replace(' ', ' and ')}: a better cell may lie outside"
        for row in chosen[chosen["on_edge"].notna()].itertuples()
    ]


def _join(blocks: Iterable[pd.DataFrame]) -> pd.DataFrame:
    keys = ["algorithm", "cell", "seed"]
    return pd.concat(list(blocks)).sort_values(keys, kind="stable", ignore_index=True)


def _settings(record: CellRecord) -> dict[str, Any]:
    """Return a cell's hyperparameters, empty where the algorithm does not read one."""
    known = record.cell.hyperparameters.given
    empty = dict.fromkeys(f.name for f in fields(Hyperparameters))
    return {"meta_iterations": record.cell.meta_iterations, **empty, **known}


def _costs(record: CellRecord) -> dict[str, int]:
    """Return what each run of a cell spends in training."""
    spent = record.cell.cost._asdict()
    return {
        COST_COLUMNS[name]: record.cell.meta_iterations * count for name, count in spent.items()
    }


def cells(study: Study) -> pd.DataFrame:
    """Return the manifest of cells."""
    rows = [{**record.head, **_settings(record)} for record in study.cells]
    return pd.DataFrame(rows).sort_values(["algorithm", "cell"], ignore_index=True)


def runs(study: Study) -> pd.DataFrame:
    """Return the table of runs; a diverged run is a row like any other."""
    rows = [
        {
            **record.head,
            "seed": int(seed),
            "status": "diverged" if diverged else "ok",
            "diverged_at": int(at) or None,
            **_costs(record),
        }
        for record in study.cells
        for seed, at, diverged in zip(
            record.seeds, record.diverged_at, record.diverged, strict=True
        )
    ]
    return (
        pd.DataFrame(rows)
        .astype({"diverged_at": "Int64"})
        .sort_values(["algorithm", "cell", "seed"], ignore_index=True)
    )


def leaderboard(study: Study, adapted: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Return the final statistics of every cell, protocol and step, and of the baselines, best
    first.
    """
    about = pd.DataFrame(
        [
            {
                **record.head,
                "protocol": protocol,
                "step": step,
                "step_size": float(np.median(record.step_size(protocol, step))),
                **_settings(record),
                **_costs(record),
                "runs_ok": int((~record.diverged).sum()),
                "runs_diverged": int(record.diverged.sum()),
            }
            for record in study.cells
            for protocol in study.config.protocols
            for step in record.steps(protocol)
        ]
    )
    keys = ["algorithm", "cell", "role", "protocol", "step"]
    marks = chosen[[*keys, "selected", "validation_loss", "frequency", "on_edge", "held_out_mean"]]
    table = (
        final(adapted)
        .drop(columns=["region", "update"])
        .merge(marks, how="left")
        .merge(about, how="left", on=keys)
    )
    table["selected"] = table["selected"].fillna(False).astype(bool)
    counts = [
        c
        for c in about.columns
        if c.startswith(("runs_", "meta_it", "meta_b", "shots", "inner_steps"))
    ]
    counts += ["queries", "context", *_costs(study.cells[0])]
    table = table.astype(dict.fromkeys(counts, "Int64"))
    front = [*keys, "selected", "step_size"]
    rest = [column for column in table.columns if column not in front]
    order = ["protocol", "mean", "median", "algorithm", "cell", "step"]
    return table[front + rest].sort_values(order, ignore_index=True)


def task_losses(study: Study) -> pd.DataFrame:
    """Return each run's loss on each test task at the last update, at its own step (tuned, where it
    has none).
    """
    found = [_task_frame(r, p) for r in study.cells for p in study.config.protocols]
    for protocol in study.config.protocols:
        for name, losses in study.baseline_losses(protocol):
            head = {"algorithm": name, "cell": "-", "protocol": protocol, "step": "none"}
            found.append(_task_rows(losses, head, [-1]))
    table = pd.concat(found)
    order = ["algorithm", "cell", "seed", "protocol", "step", "region", "task"]
    table = table.sort_values(order, ignore_index=True)
    return table.astype(
        {name: "category" for name in ("algorithm", "cell", "protocol", "step", "region")}
    )


def _task_frame(record: CellRecord, protocol: str) -> pd.DataFrame:
    step = next(s for s in ("own", "tuned") if s in record.steps(protocol))
    head = {
        "algorithm": record.cell.algorithm,
        "cell": record.cell.id,
        "protocol": protocol,
        "step": step,
    }
    return _task_rows(record.losses(protocol, step)[:, -1], head, list(record.seeds))


def _task_rows(losses: Any, head: dict[str, str], seeds: list[int]) -> pd.DataFrame:
    """Return losses ``(region, seed, task)`` as rows; seed -1 stands for a baseline without seeds."""
    regions, _, tasks = losses.shape
    index = pd.MultiIndex.from_product(
        [REGIONS[:regions], seeds, range(tasks)], names=["region", "seed", "task"]
    )
    frame = (
        pd.DataFrame({"loss": losses.ravel().astype(np.float32)}, index)
        .reset_index()
        .assign(**head)
    )
    frame = frame.astype({"seed": "int16", "task": "int32"})
    return frame[["algorithm", "cell", "seed", "protocol", "step", "region", "task", "loss"]]


TUNING = ["algorithm", "cell", "seed", "protocol", "step_size", "validation_loss", "chosen"]


def tuning(study: Study) -> pd.DataFrame:
    """Return the validation loss of each step size that a run without its own step could choose."""
    sizes = sorted(study.config.evaluation.tuning_step_sizes)
    found = [
        _tuning_frame(record, protocol, sizes)
        for record in study.cells
        for protocol in study.config.protocols
        if f"tuning/{protocol}" in record.evaluation
    ]
    table = pd.concat(found) if found else pd.DataFrame(columns=TUNING)
    return table.sort_values(TUNING[:5], ignore_index=True)


def _tuning_frame(record: CellRecord, protocol: str, sizes: list[float]) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([sizes, record.seeds], names=["step_size", "seed"])
    losses = np.nan_to_num(record.evaluation[f"tuning/{protocol}"], nan=np.inf, posinf=np.inf)
    frame = pd.DataFrame({"validation_loss": losses.ravel()}, index).reset_index()
    chosen = frame["step_size"].to_numpy() == np.tile(
        record.step_size(protocol, "tuned"), len(sizes)
    )
    head = {"algorithm": record.cell.algorithm, "cell": record.cell.id, "protocol": protocol}
    return frame.assign(chosen=chosen, **head)[TUNING]


def showcase(study: Study) -> pd.DataFrame:
    """Return the predictions of the published cells on the showcase wave, for every seed."""
    x, truth = study.baselines["showcase/x"][:, 0], study.baselines["showcase/truth"][:, 0]
    columns = ["algorithm", "cell", "role", "seed", "protocol", "x", "truth", "before", "after"]
    found = [pd.DataFrame(columns=columns)]
    for record in (r for r in study.cells if r.cell.role == "published"):
        for protocol in study.config.protocols:
            before, after = record.evaluation[f"showcase/{protocol}"]  # (run, point)
            index = pd.MultiIndex.from_product([record.seeds, x], names=["seed", "x"])
            frame = pd.DataFrame(
                {"before": before.ravel(), "after": after.ravel()}, index
            ).reset_index()
            found.append(
                frame.assign(
                    truth=np.tile(truth, len(record.seeds)), protocol=protocol, **record.head
                )
            )
    table = pd.concat(found[1:] or found)[columns]
    return table.sort_values(["algorithm", "cell", "seed", "protocol", "x"], ignore_index=True)


def points(study: Study) -> pd.DataFrame:
    """Return the support points of the showcase wave."""
    found = [
        pd.DataFrame(study.baselines[f"showcase/{protocol}/support"], columns=["x", "y"]).assign(
            protocol=protocol
        )
        for protocol in study.config.protocols
    ]
    return pd.concat(found)[["protocol", "x", "y"]].sort_values(
        ["protocol", "x"], ignore_index=True
    )
