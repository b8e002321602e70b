"""Which files of a study are not what the study would make now.

Each artefact says what it was made from: settings, source, versions, and the content of what it was
made of. That alone decides. Times of files do not, nor what Snakemake remembers: results may be
touched, copied or restored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from metabench.analysis import tables
from metabench.records import artifacts, manifests, records
from metabench.records.artifacts import ArtifactError, Header
from metabench.records.records import Paths
from metabench.study import plans
from metabench.study.config import StudyConfig
from metabench.study.plans import Cell
from metabench.views import figures, literature
from metabench.views.literature import Literature
from metabench.views.tracking import contents, store


class Artefact(NamedTuple):
    """A file of a study that says what it was made from."""

    path: Path
    made_of: list[Path]
    """Other artefacts."""
    read: Callable[[Path], Header]
    """What it says."""
    expected: Callable[[], Header]
    """What it must say, given the files that it is made of."""


def outdated(config: StudyConfig, root: Path, name: str) -> dict[str, str]:
    """Return the files that are there and must be made again, each with the reason.

    Args:
        config: The study.
        root: Its folder.
        name: Of the MLflow store to fill.

    Whether the arrays of a record are whole is seen by who reads them; tables and figures are held
    against the digests in their manifest here.
    """
    found: dict[str, str] = {}
    for artefact in _artefacts(config, root, name):
        if artefact.path.exists():
            before = next((str(path) for path in artefact.made_of if str(path) in found), None)
            if (
                reason := f"{artefact.path} is made of {before}"
                if before
                else _difference(artefact)
            ):
                found[str(artefact.path)] = reason
    return found


def order(config: StudyConfig, root: Path, name: str, found: Mapping[str, str]) -> None:
    """Make no file older than what it is made of, but for those that must be made again.

    Snakemake takes times for evidence; where files were touched or copied they are none.

    Args:
        config: The study.
        root: Its folder.
        name: Of the MLflow store to fill.
        found: What `outdated` found.
    """
    newest: dict[Path, int] = {}
    for artefact in _artefacts(config, root, name):
        if artefact.path.exists() and str(artefact.path) not in found:
            made_of = max((newest.get(path, 0) for path in artefact.made_of), default=0)
            files = _files(root, artefact.path)
            for file in files:
                if file.stat().st_mtime_ns < made_of:
                    os.utime(file, ns=(made_of, made_of))
            newest[artefact.path] = max(file.stat().st_mtime_ns for file in files)


def _files(root: Path, path: Path) -> list[Path]:
    """Return the files whose times Snakemake looks at: what the artefact's job writes, and its
    benchmark.
    """
    folder, place = path.parent, path.relative_to(root)
    if path.name != manifests.NAME:
        found = [path, root / "benchmarks" / place.with_suffix(".tsv")]
        if (
            place.parts[0] == "track" and len(place.parts) > 3
        ):  # track/STORE/ALGORITHM/..., several of one job
            found += (
                (root / "benchmarks")
                .joinpath(*place.parts[:2])
                .glob(f"{place.parts[2]}_[0-9]*.tsv")
            )
    else:
        found = [*folder.iterdir(), root / "benchmarks" / f"{folder.name}.tsv"]
        found += [root / "provenance.json"] if folder.name == "tables" else []
    return [file for file in found if file.is_file()]


def _difference(artefact: Artefact) -> str | None:
    try:
        wanted = artefact.expected()
    except ArtifactError:
        return None  # what it is made of is missing; Snakemake makes both
    try:
        return artifacts.difference(artefact.path, artefact.read(artefact.path), wanted)
    except ArtifactError as error:
        return str(error)


def _artefacts(config: StudyConfig, root: Path, name: str) -> Iterator[Artefact]:
    """Yield the artefacts of a study, each after those that it is made of."""
    paths, jobs = Paths(root), list(plans.train_jobs(config))
    for job in jobs:
        theta, losses = paths.trained(*job), paths.evaluated(*job)
        yield Artefact(theta, [], artifacts.read_header, partial(_trained, config, *job))
        yield Artefact(
            losses, [theta], artifacts.read_header, partial(_evaluated, config, paths, *job)
        )
    for batch in plans.batches(
        config
    ).values():  # one tracking job's, and so as old as the newest of its records
        made_of = [path for job in batch for path in (paths.trained(*job), paths.evaluated(*job))]
        for job in batch:
            header = partial(contents.cell_header, config, paths, *job)
            yield Artefact(store.marker(root, name, *job), made_of, store.read_marker, header)
    yield Artefact(paths.baselines, [], artifacts.read_header, partial(_baselines, config))
    made_of = [path for job in jobs for path in (paths.trained(*job), paths.evaluated(*job))]
    drawn, tabled, published = (
        root / folder / manifests.NAME for folder in ("figures", "tables", "literature")
    )
    yield Artefact(tabled, [*made_of, paths.baselines], _manifest, partial(_tables, config, paths))
    yield Artefact(drawn, [tabled], _manifest, partial(_figures, tabled))
    if (known := literature.covered(literature.load(), config)).rows:
        yield Artefact(published, [tabled], _manifest, partial(_literature, known, config, tabled))
    markers = [store.marker(root, name, *job) for job in jobs]
    header = partial(contents.study_header, config, root)
    yield Artefact(
        store.study_marker(root, name), [*markers, tabled, drawn], store.read_marker, header
    )


def _manifest(path: Path) -> Header:
    return manifests.read(path.parent)


def _trained(config: StudyConfig, cell: Cell, block: str) -> Header:
    return records.training_header(plans.train_settings(config, cell), block)


def _evaluated(config: StudyConfig, paths: Paths, cell: Cell, block: str) -> Header:
    theta = artifacts.read_header(paths.trained(cell, block))["content"]
    return records.evaluation_header(plans.evaluate_settings(config, cell), block, theta)


def _baselines(config: StudyConfig) -> Header:
    return records.baselines_header(plans.baseline_settings(config))


def _tables(config: StudyConfig, paths: Paths) -> Header:
    return tables.header(config, records.contents(paths, config))


def _figures(tabled: Path) -> Header:
    return figures.header(_manifest(tabled)["content"])


def _literature(known: Literature, config: StudyConfig, tabled: Path) -> Header:
    return literature.header(known, {config.study: _manifest(tabled)["content"]})
