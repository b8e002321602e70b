"""What a run shows in MLflow: parameters, points of curves, tags and files, taken from the records
and tables.

A point that is not finite is not logged (MLflow would store an infinite loss as 1.8e308 and draw
it): the metric `non_finite_points` counts what is missing, a final loss that is infinite is absent,
and a diverged run has its status.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from math import ceil, isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd

from metabench.analysis import frames
from metabench.learning import engine
from metabench.learning.algorithms.protocol import Cost, Hyperparameters
from metabench.records import artifacts, manifests, records
from metabench.records.artifacts import Header
from metabench.records.provenance import code_digest, config_digest, describe, digest, made_from
from metabench.records.records import COST_COLUMNS, CellRecord, Paths
from metabench.study import config, plans
from metabench.study.config import StudyConfig
from metabench.study.plans import Cell

MIRROR = "metabench.views.tracking.mirror"
"""The module that writes what stands here into MLflow."""

CURVE = 200
"""Points of a logged curve at most; a longer one is thinned evenly and keeps its last point."""

HEADLINE = ("mean", "mean_lower", "mean_upper", "median", "iqm", "diverged_share")
"""Columns of the leaderboard that the study's run shows."""


class Point(NamedTuple):
    """One point of a metric."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Dataset:
    """A task bank, as MLflow lists it."""

    name: str
    context: str
    digest: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Content:
    """What a run shows.

    Args:
        name: Of the run.
        params: What it was made with.
        points: Of its metrics, all finite.
        tags: What it was made from.
        files: Bytes by name.
        datasets: Its task banks.
    """

    name: str
    params: dict[str, str]
    points: list[Point]
    tags: dict[str, str]
    files: dict[str, bytes]
    datasets: list[Dataset] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Of everything shown: where it is the same, nothing is to be done."""
        files = {name: digest(content) for name, content in self.files.items()}
        return config_digest([asdict(self) | {"files": files}])


def cell_settings(study: StudyConfig, cell: Cell) -> dict[str, Any]:
    """Return all that a cell's runs show: the cell, and the study without its other cells and its
    seeds.
    """
    alone = {
        "cells": [{"algorithm": cell.module, "meta_iterations": cell.meta_iterations}],
        "seeds": 1,
    }
    shared = (
        "study",
        "source",
        "tasks",
        "network",
        "protocols",
        "validation",
        "evaluation",
        "showcase",
    )
    whole = plans.study_settings(study)
    spelled = {
        **vars(cell),
        "hyperparameters": cell.hyperparameters.given,
        "cost": cell.cost._asdict(),
    }
    return {"cell": spelled, "study": {key: whole[key] for key in shared} | alone}


def cell_header(study: StudyConfig, paths: Paths, cell: Cell, block: str) -> Header:
    """Return what the runs of a block are made from; raise ArtifactError where its records are not
    there.
    """
    files = {"theta": paths.trained(cell, block), "losses": paths.evaluated(cell, block)}
    digests = {name: artifacts.read_header(path)["content"] for name, path in files.items()}
    return made_from("track", cell_settings(study, cell), code_digest(MIRROR), (), **digests)


def study_header(study: StudyConfig, root: Path) -> Header:
    """Return what the study's own run is made from; raise ArtifactError where tables or figures are
    not there.
    """
    digests = {name: manifests.read(root / name)["content"] for name in ("tables", "figures")}
    return made_from("track study", plans.study_settings(study), code_digest(MIRROR), (), **digests)


def read_settings(settings: Mapping[str, Any]) -> tuple[StudyConfig, Cell]:
    """Return the study and the cell that `cell_settings` spelled."""
    cell = settings["cell"]
    parts = {
        "hyperparameters": Hyperparameters(**cell["hyperparameters"]),
        "cost": Cost(**cell["cost"]),
    }
    return config.parse(settings["study"]), Cell(**{**cell, **parts})


def runs(study: StudyConfig, record: CellRecord, block: str) -> dict[int, Content]:
    """Return what each run of a block shows, by seed."""
    history = records.history(record).groupby("seed")
    curves = records.curves(record, list(study.protocols)).groupby("seed")
    sources = _sources(study, record.cell, block)
    return {
        seed: Content(
            name=f"{record.cell.algorithm} {record.cell.id} seed {seed}",
            params=_params(study, record, run),
            points=_run_points(history.get_group(seed), curves.get_group(seed))
            + _costs(record.cell),
            tags=_status(int(record.diverged_at[run])) | sources,
            files={"theta.safetensors": _theta(study, record, run)},
        )
        for run, seed in enumerate(record.seeds.tolist())
    }


def _params(study: StudyConfig, record: CellRecord, run: int) -> dict[str, str]:
    cell = record.cell
    settings = plans.train_settings(study, cell)
    known = cell.hyperparameters.given
    steps = {
        f"step_size.{protocol}.{step}": float(record.step_size(protocol, step)[run])
        for protocol in study.protocols
        for step in record.steps(protocol)
    }
    head = {"study": study.study, "algorithm": cell.algorithm, "cell": cell.id, "role": cell.role}
    rest = {key: settings[key] for key in ("tasks", "network", "validation")}
    protocols = {"protocol": plans.evaluate_settings(study, cell)["protocols"]}
    values = {
        **head,
        "seed": int(record.seeds[run]),
        "meta_iterations": cell.meta_iterations,
        **known,
        **steps,
    }
    return dict(_flat({**values, **rest, **protocols, "test_tasks": study.evaluation.tasks}))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as dotted names with their values as text."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _run_points(history: pd.DataFrame, curves: pd.DataFrame) -> list[Point]:
    """Return the finite points of one run from its rows of the tables history and curves."""
    points = _curve("validation_loss", history, "meta_iteration", "validation_loss")
    points.append(Point("final_validation_loss", points[-1].value))
    for (protocol, step, region), part in curves.groupby(["protocol", "step", "region"]):
        for statistic in ("mean", "median"):
            curve = _curve(f"{protocol}/{step}/{region}/{statistic}", part, "update", statistic)
            final = f"{protocol}/{step}/final_{statistic}" if region == "all" else None
            points += [*curve, Point(final, curve[-1].value)] if final else curve
    finite = [point for point in points if isfinite(point.value)]
    return [*finite, Point("non_finite_points", len(points) - len(finite))]


def _costs(cell: Cell) -> list[Point]:
    """Return what one run spends in training."""
    spent = cell.cost._asdict()
    return [
        Point(COST_COLUMNS[name], cell.meta_iterations * count) for name, count in spent.items()
    ]


def _curve(key: str, rows: pd.DataFrame, step: str, value: str) -> list[Point]:
    """Return a curve's points in order, thinned to `CURVE`."""
    rows = rows.sort_values(step)
    points = [
        Point(key, y, x) for x, y in zip(rows[step].tolist(), rows[value].tolist(), strict=True)
    ]
    kept = points[:: ceil(len(points) / (CURVE - 1))] if len(points) > CURVE else points
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _status(diverged_at: int) -> dict[str, str]:
    """Return whether a run diverged, and after which meta-iteration."""
    return (
        {"status": "diverged", "diverged_at": str(diverged_at)} if diverged_at else {"status": "ok"}
    )


def _sources(study: StudyConfig, cell: Cell, block: str) -> dict[str, str]:
    """Return the digests and versions that the records of a block embed."""
    headers = {
        "train": records.training_header(plans.train_settings(study, cell), block),
        "evaluate": records.evaluation_header(plans.evaluate_settings(study, cell), block, ""),
    }
    return _digests(headers)


def _digests(headers: Mapping[str, Header]) -> dict[str, str]:
    return dict(
        _flat(
            {kind: {k: h[k] for k in ("config", "code", "versions")} for kind, h in headers.items()}
        )
    )


def _theta(study: StudyConfig, record: CellRecord, run: int) -> bytes:
    """Return one run's initialization ``(1, P)`` as a safetensors file, a trained record of one
    seed.
    """
    seed = int(record.seeds[run])
    header = records.training_header(plans.train_settings(study, record.cell), f"{seed}-{seed}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "theta.safetensors"
        artifacts.write(path, {"theta": record.theta[run : run + 1]}, header)
        return path.read_bytes()


def whole_study(study: StudyConfig, root: Path) -> Content:
    """Return what the study's own run shows: tables, figures, settings, provenance and task banks."""
    from metabench.analysis import tables  # brings scipy, for which a cell's job need not wait

    names = [*tables.NAMES, manifests.NAME]
    folders = {
        "tables": [root / "tables" / name for name in names],
        "figures": _pictures(root / "figures"),
    }
    files = {
        f"{folder}/{path.name}": path.read_bytes()
        for folder, paths in folders.items()
        for path in paths
    }
    files["provenance.json"] = (root / "provenance.json").read_bytes()
    settings = plans.study_settings(study)
    files["config.json"] = (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode()
    banks = {f"{purpose}-bank": _bank_table(study, purpose) for purpose in ("validation", "test")}
    files |= {f"banks/{name}.csv": table for name, table in banks.items()}
    numbered = {f"cell.{n}": json.dumps(group) for n, group in enumerate(settings.pop("cells"))}
    return Content(
        name=study.study,
        params=dict(_flat(settings | numbered)),
        points=_headline(frames.read(root / "tables", "leaderboard.csv")),
        tags={
            "mlflow.note.content": f"{study.source}\n\n{len(plans.cells(study))} cells, {study.seeds} seeds",
            **_digests({"tables": manifests.read(root / "tables")}),
        },
        files=files,
        datasets=[_dataset(study, name, digest(table)) for name, table in banks.items()],
    )


def _pictures(folder: Path) -> Iterable[Path]:
    return sorted(
        path for path in folder.glob("*") if path.suffix in (".svg", ".png") and path.name[0] != "."
    )


def _headline(leaderboard: pd.DataFrame) -> list[Point]:
    """Return the final statistics of all rows but the grid's, of which only the selected cells."""
    rows = leaderboard[(leaderboard["role"] != "grid") | leaderboard["selected"]]
    points = [
        Point(f"{_row_name(row)}/{name}", float(row[name]))
        for _, row in rows.iterrows()
        for name in HEADLINE
    ]
    return [point for point in points if isfinite(point.value)]


def _row_name(row: pd.Series) -> str:
    """Spell a row of the leaderboard: ``standard/own/fomaml 8c4afc43``, ``standard/none/zero``."""
    cell = "" if row["cell"] == "-" else f" {row['cell']}"
    return f"{row['protocol']}/{row['step']}/{row['algorithm']}{cell}"


def _bank_table(study: StudyConfig, purpose: str) -> bytes:
    """Return a bank as CSV: each task, and its support points as shares of a protocol's support
    interval.
    """
    from metabench.learning.tasks import Bank  # brings torch

    tasks = study.evaluation.tasks if purpose == "test" else study.validation.tasks
    bank = Bank(study.study, f"{purpose}-bank", study.tasks, tasks)
    shots = max(protocol.shots for protocol in study.protocols.values())
    support = bank.support(shots, (0.0, 1.0)).x[..., 0].numpy()
    columns = {name: value.numpy() for name, value in vars(bank.drawn).items() if value is not None}
    columns |= {f"support_{k}": support[:, k] for k in range(shots)}
    return (
        pd.DataFrame(columns)
        .rename_axis("task")
        .to_csv(float_format="%.9g", lineterminator="\n")
        .encode()
    )


def _dataset(study: StudyConfig, name: str, content: str) -> Dataset:
    tasks = study.evaluation.tasks if name == "test-bank" else study.validation.tasks
    settings = {
        "study": study.study,
        "purpose": name,
        "tasks": tasks,
        **study.tasks.model_dump(mode="json"),
    }
    return Dataset(f"{study.study} {name}", name.removesuffix("-bank"), content, settings)


@cache
def surroundings() -> dict[str, str]:
    """Return tags of where tracking runs: commit, versions, processor. They may differ where
    results agree.
    """
    return dict(_flat(describe(engine.name())))
