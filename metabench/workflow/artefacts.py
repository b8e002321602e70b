"""Every artefact of a study: its path, its inputs, its job and its expected header.

The rules' files, staleness, tracking and the plan all follow from this list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path

from metabench.analysis import tables
from metabench.records import artifacts, headers, manifests
from metabench.records.artifacts import ArtifactError, Header
from metabench.records.running import Running
from metabench.study.cells import Cell
from metabench.study.jobs import TrainJob
from metabench.views import figures, literature, report
from metabench.views.tracking import contents, store
from metabench.workflow import estimate

BATCH = 20
"""Training jobs per tracking job: starting one takes as long as mirroring several."""


@dataclass(frozen=True)
class Artefact:
    """A file that records its inputs.

    Args:
        job: Rule of the job that produces it.
        path: The file.
        made_of: Paths of the artefacts that are its inputs.
        read: Reads its recorded inputs.
        expected: The inputs that it must record, given its input files.
        seconds: Expected seconds of its job, if that is long.
        share: Finished share of its job, 0 to 1.
        title: Title of its job, if it has one.
    """

    job: str
    path: Path
    made_of: tuple[Path, ...]
    read: Callable[[Path], Header]
    expected: Callable[[], Header]
    seconds: float = 0.0
    share: Callable[[], float] = lambda: 0.0
    title: str = ""


def artefacts(running: Running, name: str) -> list[Artefact]:
    """Return the artefacts of a study, each after its inputs.

    Args:
        running: The study.
        name: Name of the MLflow store to fill.
    """
    records = [*_records(running), *_baselines(running), *_predictions(running)]
    of_records = tuple(artefact.path for artefact in records)
    tabled = running.layout.tables / manifests.NAME
    drawn = running.layout.figures / manifests.NAME
    markers = list(_markers(running, name))
    views = [
        Artefact("tables", tabled, of_records, _manifest, partial(_tables, running)),
        Artefact("figures", drawn, (tabled,), _manifest, partial(_figures, tabled)),
        *_literature(running, tabled),
    ]
    views.append(_report(running, tabled, *(a.path for a in views if a.job == "literature")))
    whole = Artefact(
        "track_study",
        running.layout.study_marker(name),
        (*(marker.path for marker in markers), tabled, drawn, running.layout.report),
        store.read_marker,
        partial(contents.study_header, running),
    )
    return [*records, *markers, *views, whole]


def _records(running: Running) -> Iterator[Artefact]:
    """Yield the records of training and evaluation."""
    layout = running.layout
    for cell, seeds in running.study.train_jobs:
        theta = layout.trained(cell.path, seeds)
        header = partial(_trained, running, cell, seeds)
        seconds = estimate.training(running, cell, seeds)
        share = partial(_trained_share, running, cell, seeds)
        title = f"train {cell.title}, seeds {seeds}"
        yield Artefact("train", theta, (), artifacts.read_header, header, seconds, share, title)
        for group in running.study.groups:
            losses = layout.evaluated(cell.path, group, seeds)
            header = partial(_evaluated, running, cell, group, seeds)
            seconds = estimate.evaluation(running, cell, group, seeds)
            share = partial(_done, losses, header)
            title = f"evaluate {cell.title}, {group}, seeds {seeds}"
            yield Artefact(
                "evaluate", losses, (theta,), artifacts.read_header, header, seconds, share, title
            )


def _baselines(running: Running) -> Iterator[Artefact]:
    for group in running.study.groups:
        path = running.layout.baselines(group)
        header = partial(headers.of_baselines, running.study.baseline_settings(group))
        title = f"baselines, {group}"
        yield Artefact("baselines", path, (), artifacts.read_header, header, title=title)


def _predictions(running: Running) -> Iterator[Artefact]:
    for name in running.study.predictions:
        path = running.layout.predictions(name)
        header = partial(_predicted, running, name)
        title = f"predictions, {name}"
        yield Artefact("predictions", path, (), artifacts.read_header, header, title=title)


def batches(running: Running) -> dict[str, list[TrainJob]]:
    """Return the training jobs of each tracking job, by the name of the batch."""
    jobs = running.study.train_jobs
    return {f"cells_{n}": jobs[n * BATCH : (n + 1) * BATCH] for n in range(ceil(len(jobs) / BATCH))}


def records_of(running: Running, jobs: list[TrainJob]) -> list[Path]:
    """Return the records of training jobs, of their evaluations and of the baselines."""
    layout = running.layout
    found = [layout.baselines(group) for group in running.study.groups]
    for cell, seeds in jobs:
        found.append(layout.trained(cell.path, seeds))
        found += [layout.evaluated(cell.path, group, seeds) for group in running.study.groups]
    return found


def _markers(running: Running, name: str) -> Iterator[Artefact]:
    """Yield the tracking markers."""
    for job in running.study.train_jobs:
        path = running.layout.marker(name, job.cell.path, job.seeds)
        header = partial(contents.cell_header, running, *job)
        made_of = tuple(records_of(running, [job]))
        yield Artefact("track_cells", path, made_of, store.read_marker, header)


def _literature(running: Running, tabled: Path) -> Iterator[Artefact]:
    """Yield the comparison with published numbers, if the study covers any."""
    known = literature.covered(literature.load(), running.study)
    if known.rows:
        path = running.layout.literature / manifests.NAME

        def header() -> Header:
            return literature.header(known, {running.study.name: _manifest(tabled)["content"]})

        yield Artefact("literature", path, (tabled,), _manifest, header)


def _report(running: Running, tabled: Path, *published: Path) -> Artefact:
    """Return the report of a study, with published numbers if it covers any."""

    def header() -> Header:
        beside = [_manifest(path)["content"] for path in published]
        tables = _manifest(tabled)["content"]
        return report.header(tables, running.layout.provenance, "".join(beside))

    made_of = (tabled, *published)
    return Artefact("report", running.layout.report, made_of, report.read_header, header)


def _trained(running: Running, cell: Cell, seeds: str) -> Header:
    return headers.training(running.study.train_settings(cell), seeds, running.engine)


def _evaluated(running: Running, cell: Cell, group: str, seeds: str) -> Header:
    theta = artifacts.read_header(running.layout.trained(cell.path, seeds))["content"]
    settings = running.study.evaluate_settings(cell, group)
    return headers.evaluation(settings, seeds, running.engine, theta)


def _predicted(running: Running, name: str) -> Header:
    return headers.of_predictions(running.study.bank_settings, running.reader.answers(name))


def _tables(running: Running) -> Header:
    return tables.header(running.study.config, running.reader.contents())


def _figures(tabled: Path) -> Header:
    return figures.header(_manifest(tabled)["content"])


def _manifest(path: Path) -> Header:
    return manifests.read(path.parent)


def _done(path: Path, expected: Callable[[], Header]) -> float:
    """Return 1 if a record exists and is valid, else 0."""
    try:
        artifacts.require(path, artifacts.read_header(path), expected())
    except ArtifactError:
        return 0.0
    return 1.0


def _trained_share(running: Running, cell: Cell, seeds: str) -> float:
    """Return the finished share of a training job, from its files."""
    header = partial(_trained, running, cell, seeds)
    if _done(running.layout.trained(cell.path, seeds), header):
        return 1.0
    checkpoint = running.layout.checkpoint(cell.path, seeds)
    if not _done(checkpoint, header):
        return 0.0
    try:
        found, _ = artifacts.read(checkpoint)
        return int(found["meta_iteration"][0]) / max(cell.meta_iterations, 1)
    except (ArtifactError, LookupError):
        return 0.0
