"""Merge results of several machines into one study: import the records that fit.

A record names its inputs. So a record that fits is, byte for byte, the one that this machine would
have produced, and the rest of the study follows from the records.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from metabench.records import artifacts, locks
from metabench.records.artifacts import ArtifactError, Header, replacing
from metabench.records.running import Running
from metabench.workflow.artefacts import Artefact, artefacts

RECORDS = ("train", "evaluate", "baselines", "predictions")
"""The jobs whose files are taken over; all else is made from these in seconds."""


class Merged(NamedTuple):
    """The result of a merge.

    Args:
        taken: Imported records.
        known: Records that already existed.
        missing: Records that were in no folder.
        refused: Why a file was not imported, one line per file.
    """

    taken: int
    known: int
    missing: int
    refused: list[str]


def merge(running: Running, folders: Sequence[Path]) -> Merged:
    """Import the records that fit a study from other result folders.

    Args:
        running: The study, whose folder gets the records.
        folders: Folders of results of the same study, for instance ``there/results/flux``.

    Raises:
        ArtifactError: The study is running, or a folder has no records or is the study's own.
    """
    for folder in folders:
        if not any((folder / kind).is_dir() for kind in RECORDS):
            raise ArtifactError(
                f"{folder} has no records: name a folder such as there/results/flux"
            )
        if folder.resolve() == running.layout.root.resolve():
            raise ArtifactError(f"{folder} is the study's own folder; name others")
    with ExitStack() as held:
        # The jobs of a running study must not meet files that appear under them.
        lock = locks.take(running.layout.lock)
        if lock is None:
            holder = locks.holder(running.layout.lock)
            raise ArtifactError(f"the study {running.study.name} is being run by process {holder}")
        held.enter_context(lock)
        running.write()
        return _merged(running, folders)


def _merged(running: Running, folders: Sequence[Path]) -> Merged:
    """Return the outcome for each record, each after its inputs."""
    counts = {"taken": 0, "known": 0, "missing": 0}
    refused: list[str] = []
    for artefact in _wanted(running):
        # The expected header of an evaluation contains the digest of its training record, so inputs
        # come first.
        place = artefact.path.relative_to(running.layout.root)
        counts[_merge(artefact, [folder / place for folder in folders], refused)] += 1
    return Merged(**counts, refused=refused)


def _wanted(running: Running) -> Iterator[Artefact]:
    """Yield the records that belong in the study's own folder."""
    # The name of the store is irrelevant, because markers of tracking are no records.
    for artefact in artefacts(running, "elsewhere"):
        if artefact.job in RECORDS and artefact.path.is_relative_to(running.layout.root):
            yield artefact


def _merge(artefact: Artefact, places: Sequence[Path], refused: list[str]) -> str:
    """Import a record from the first folder that has it, and return the outcome."""
    try:
        expected = artefact.expected()
    except ArtifactError:
        # Without the input record, the expected header is unknown.
        return "missing"
    if _reason(artefact.path, expected) is None:
        return "known"
    for place in places:
        if not place.is_file():
            continue
        if reason := _reason(place, expected):
            refused.append(reason)
            continue
        with replacing(artefact.path) as temporary:
            shutil.copyfile(place, temporary)
        return "taken"
    return "missing"


def _reason(path: Path, expected: Header) -> str | None:
    """Return why a file is not the expected record; None if it is."""
    try:
        _, header = artifacts.read(path)
    except ArtifactError as error:
        return str(error)
    return artifacts.difference(path, header, expected)
