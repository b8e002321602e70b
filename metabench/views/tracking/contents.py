"""The contents of a run in MLflow: parameters, points of curves, tags and files.

They come from the records and tables.

A non-finite point is not logged (MLflow would store an infinite loss as 1.8e308 and plot it): the
metric `non_finite_points` counts what is missing, a final loss that is infinite is absent, and a
diverged run has its status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from math import ceil, isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd

from metabench.analysis import curves, frames
from metabench.analysis.columns import judged
from metabench.analysis.selection import step_of
from metabench.learning.scores import scores
from metabench.records import artifacts, headers, manifests
from metabench.records.artifacts import Arrays, Header
from metabench.records.measured import COST_COLUMNS, CellRecord
from metabench.records.provenance import code_digest, config_digest, describe, digest, made_from
from metabench.records.running import Running
from metabench.study.cells import Cell
from metabench.study.jobs import Study
from metabench.views import report
from metabench.views.drawing.reading import Tables
from metabench.views.report import findings
from metabench.views.tracking import view

MIRROR = "metabench.views.tracking.mirror"
"""The module that writes this content into MLflow."""

CURVE = 200
"""The most points of a logged curve; a longer one is thinned evenly and keeps its last point."""

THETA = "theta.safetensors"
"""Name of a run's file with what it learned."""

READ_ON = """
A score is a prediction's loss divided by that of predicting zero on the same task and points,
capped at 1; 0 is perfect. The metrics of this run are mean scores on the test tasks after a
protocol's last update, for the published, selected and equal-budget cells and for predictions of
other programs: `protocol/step/algorithm cell`. The child runs are the training runs, one for each
seed of each cell, and those of predictions.
Artifacts: `report.html`, `figures`, `tables/leaderboard.csv` and the other tables, `config.json`.
"""
"""How to read a study's run."""


def plain(name: str) -> str:
    """Return a name of a metric or parameter in the characters that MLflow allows."""
    return re.sub(r"[^\w .:/-]", "", name)


class Point(NamedTuple):
    """One point of a metric."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Dataset:
    """A task bank, for MLflow's list of datasets."""

    name: str
    context: str
    digest: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Content:
    """The content of a run.

    Args:
        name: Name of the run.
        params: Parameters of the run.
        points: Points of its metrics, all finite.
        tags: Inputs of the run.
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
        """Digest of everything shown: if it is the same, there is nothing to do."""
        files = {name: digest(content) for name, content in self.files.items()}
        return config_digest([asdict(self) | {"files": files}])


def shown(study: Study, cell: Cell) -> dict[str, Any]:
    """Return the settings that a cell's runs show: how they were trained and evaluated."""
    evaluated = {
        group: study.evaluate_settings(cell, group).model_dump(mode="json")
        for group in study.groups
    }
    return {
        "source": study.config.source,
        "role": cell.role,
        "train": study.train_settings(cell).model_dump(mode="json"),
        "evaluate": evaluated,
    }


def cell_header(running: Running, cell: Cell, seeds: str) -> Header:
    """Return the inputs of a block's runs; raise ArtifactError if records are missing."""
    layout = running.layout
    paths = [layout.trained(cell.path, seeds)]
    paths += [layout.evaluated(cell.path, group, seeds) for group in running.study.groups]
    paths += [layout.baselines(group) for group in running.study.groups]
    digests = [artifacts.read_header(path)["content"] for path in sorted(paths)]
    settings = shown(running.study, cell)
    return made_from("track", settings, code_digest(MIRROR), (), records=digests)


def study_header(running: Running) -> Header:
    """Return the inputs of the study's own run; raise ArtifactError if files are missing."""
    layout, settings = running.layout, running.study.config.model_dump(mode="json")
    folders = {"tables": layout.tables, "figures": layout.figures}
    digests = {name: manifests.read(folder)["content"] for name, folder in folders.items()}
    digests["report"] = config_digest(report.read_header(layout.report))
    return made_from("track study", settings, code_digest(MIRROR), (), **digests)


def runs(running: Running, cell: Cell, seeds: str) -> dict[int, Content]:
    """Return the content of each run of a block, by seed."""
    record, baselines = running.reader.block(cell, seeds), running.reader.baselines()
    history = curves.history(record).groupby("seed")
    study = running.study
    of_updates = curves.curves(record, study.regions, study.protocols).groupby("seed")
    sources = _sources(running, cell, seeds)
    judging = {name: step_of(record, name) for name in running.study.single_protocols}
    found = {}
    for run, seed in enumerate(record.seeds.tolist()):
        points = _run_points(history.get_group(seed), of_updates.get_group(seed), judging)
        found[seed] = Content(
            name=f"{cell.algorithm} seed {seed}, {cell.name}",
            params=_params(running.study, record, run),
            points=[*points, *_scores(running.study, record, run, baselines), *_costs(cell)],
            tags=_status(record, run) | sources,
            files={THETA: _theta(running, record, run)},
        )
    return found


def _params(study: Study, record: CellRecord, run: int) -> dict[str, str]:
    """Return the parameters of a run, each value as text under a dotted name."""
    cell, settings = record.cell, study.train_settings(record.cell).model_dump(mode="json")
    steps = {
        f"step_size.{protocol}.{step}": float(record.step_size(protocol, step)[run])
        for protocol in study.single_protocols
        for step in record.steps(protocol)
    }
    values = {
        "study": study.name,
        "algorithm": cell.algorithm,
        "cell": cell.name,
        "role": cell.role,
        "seed": int(record.seeds[run]),
        "meta_iterations": cell.meta_iterations,
        **cell.hyperparameters.model_dump(mode="json"),
        **steps,
        **{key: settings[key] for key in ("tasks", "network", "validation")},
        "protocol": {
            name: study.protocols[name].model_dump(mode="json") for name in study.single_protocols
        },
        "test_tasks": study.config.evaluation.tasks,
    }
    return dict(_flat(values))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as dotted names with their values as text."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield plain(f"{prefix}{key}"), value if isinstance(value, str) else json.dumps(value)


def _run_points(
    history: pd.DataFrame, curves: pd.DataFrame, judging: Mapping[str, str]
) -> list[Point]:
    """Return the finite points of one run.

    Args:
        history: Its rows of the table history.
        curves: Its rows of the table curves.
        judging: The step size by which the cell is judged, by protocol.
    """
    points = _curve("validation_loss", history, "meta_iteration", "validation_loss")
    points.append(Point("final_validation_loss", points[-1].value))
    for (protocol, step, region), part in curves.groupby(["protocol", "step", "region"]):
        for statistic in ("mean", "median"):
            curve = _curve(f"{protocol}/{step}/{region}/{statistic}", part, "update", statistic)
            points += curve
            if region == "all" and step == judging[protocol]:
                points.append(Point(f"{protocol}/final_{statistic}", curve[-1].value))
    finite = [point for point in points if isfinite(point.value)]
    return [*finite, Point("non_finite_points", len(points) - len(finite))]


def _scores(study: Study, record: CellRecord, run: int, baselines: Arrays) -> Iterator[Point]:
    """Yield the score of one run after each protocol's last update, on the whole grid.

    It is that of the step size by which the cell is judged.
    """
    for protocol in study.single_protocols:
        losses = record.losses(protocol, step_of(record, protocol))[0, -1, run]
        zero = baselines[f"test/{protocol}/zero"][0]
        yield Point(view.score(protocol), float(scores(losses, zero).mean()))


def _costs(cell: Cell) -> list[Point]:
    """Return the training cost of one run."""
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


def _status(record: CellRecord, run: int) -> dict[str, str]:
    """Return whether a run diverged, as in the table of runs, and when theta did."""
    found = {"status": "diverged" if record.diverged[run] else "ok"}
    if diverged_at := int(record.diverged_at[run]):
        found["diverged_at"] = str(diverged_at)
    return found


def _sources(running: Running, cell: Cell, seeds: str) -> dict[str, str]:
    """Return the digests and versions that the records of a block embed."""
    trained = headers.training(running.study.train_settings(cell), seeds, running.engine)
    found = {"train": trained}
    for group in running.study.groups:
        settings = running.study.evaluate_settings(cell, group)
        found[f"evaluate.{group}"] = headers.evaluation(settings, seeds, running.engine, "")
    return _digests(found)


def _digests(headers: Mapping[str, Header]) -> dict[str, str]:
    return dict(
        _flat(
            {kind: {k: h[k] for k in ("config", "code", "versions")} for kind, h in headers.items()}
        )
    )


def _theta(running: Running, record: CellRecord, run: int) -> bytes:
    """Return one run's initialization ``(1, P)`` as a safetensors file, a record of one seed."""
    seed = int(record.seeds[run])
    settings = running.study.train_settings(record.cell)
    header = headers.training(settings, f"{seed}-{seed}", running.engine)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "theta.safetensors"
        artifacts.write(path, {"theta": record.theta[run : run + 1]}, header)
        return path.read_bytes()


def whole_study(running: Running) -> Content:
    """Return what the study's own run shows: its report, and all that it was made from."""
    from metabench.analysis import tables  # brings scipy, for which a cell's job need not wait

    layout, study = running.layout, running.study
    names = [*tables.names(study.config), manifests.NAME]
    folders = {
        "tables": [layout.tables / name for name in names],
        "figures": _pictures(layout.figures),
    }
    files = {f"{folder}/{p.name}": p.read_bytes() for folder, ps in folders.items() for p in ps}
    for path in (layout.report, layout.provenance):
        files[path.name] = path.read_bytes()
    settings = study.config.model_dump(mode="json")
    files["config.json"] = (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode()
    banks = {f"{purpose}-bank": _bank_table(study, purpose) for purpose in ("validation", "test")}
    files |= {f"banks/{name}.csv": table for name, table in banks.items()}
    numbered = {f"cell.{n}": json.dumps(group) for n, group in enumerate(settings.pop("cells"))}
    return Content(
        name=study.name,
        params=dict(_flat(settings | numbered)),
        points=_headline(frames.read(layout.tables, "leaderboard.csv"), study),
        tags={
            "mlflow.note.content": description(running),
            **_digests({"tables": manifests.read(layout.tables)}),
        },
        files=files,
        datasets=[_dataset(study, name, digest(table)) for name, table in banks.items()],
    )


def _pictures(folder: Path) -> Iterable[Path]:
    return sorted(
        path for path in folder.glob("*") if path.suffix in (".svg", ".png") and path.name[0] != "."
    )


def description(running: Running) -> str:
    """Return a study's description, its findings and how to read it, in Markdown."""
    study = running.study
    count = (
        f"{len(study.cells)} cells, {study.config.seeds} seeds, {len(study.protocols)} protocols"
    )
    main = str(study.config.validation.protocol)
    protocols = [main, *(name for name in sorted(study.single_protocols) if name != main)]
    tables, confidence = Tables(running.layout.tables), study.config.statistics.confidence
    found = findings.sentences(tables, protocols, confidence)
    return "\n\n".join([f"**{study.config.source}**; {count}.", *found, READ_ON.strip()])


def _headline(leaderboard: pd.DataFrame, study: Study) -> list[Point]:
    """Return the score of predictions, and of each cell that stands for its algorithm.

    Protocols of a grid are too many for a page; the tables have them.
    """
    leaderboard = judged(leaderboard)
    stands = (leaderboard["role"] != "grid") | leaderboard["selected"]
    shown = leaderboard["protocol"].isin(study.single_protocols)
    rows = leaderboard[stands & shown & (leaderboard["role"] != "baseline")]
    return [Point(_row_name(row), float(row["score"])) for _, row in rows.iterrows()]


def _row_name(row: pd.Series) -> str:
    """Format a row of the leaderboard: ``standard/own/fomaml inner 0.02, meta 0.01``."""
    return plain(f"{row['protocol']}/{row['step']}/{row['algorithm']} {row['cell']}")


def _bank_table(study: Study, purpose: str) -> bytes:
    """Return bank 0 as CSV: each task, and its support points as fractions of their interval."""
    from metabench.learning.tasks import Bank  # brings torch

    tasks = study.config.tasks
    bank = Bank(0, f"{purpose}-bank", tasks, _tasks_of(study, purpose))
    shots = max(protocol.shots for protocol in study.protocols.values())
    support = bank.support(shots, (0.0, 1.0)).x.flatten(1).numpy()
    columns = {n: value.numpy() for n, value in vars(bank.drawn).items() if value is not None}
    columns |= {f"support_{k}": support[:, k] for k in range(support.shape[1])}
    table = pd.DataFrame(columns).rename_axis("task")
    return table.to_csv(float_format="%.9g", lineterminator="\n").encode()


def _tasks_of(study: Study, purpose: str) -> int:
    return study.banks.test if purpose == "test" else study.banks.validation


def _dataset(study: Study, name: str, content: str) -> Dataset:
    purpose = name.removesuffix("-bank")
    settings = {"study": study.name, "purpose": name, "tasks": _tasks_of(study, purpose)}
    settings |= study.config.tasks.model_dump(mode="json")
    return Dataset(f"{study.name} {name}", purpose, content, settings)


@cache
def surroundings(engine: str) -> dict[str, str]:
    """Return tags of the tracking machine (commit, versions, processor) and the study's engine.

    They may differ although results agree.
    """
    return dict(_flat(describe(engine)))
