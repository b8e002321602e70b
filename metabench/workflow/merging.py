"""Merge results of several machines into one study: import the records that fit.

A record fits if its header has the settings, source, versions and inputs that the study expects.
Two records that fit may still have different numbers, for instance if two compilers made the
kernel, so their contents are compared as well.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

from metabench.records import artifacts, locks
from metabench.records.artifacts import ArtifactError, Header, replacing
from metabench.records.layout import RECORD, Layout
from metabench.records.running import Running
from metabench.study.jobs import Study
from metabench.study.messages import cut
from metabench.workflow.artefacts import Artefact, artefacts

RECORDS = {"train": 3, "evaluate": 4, "baselines": 1, "predictions": 1}
"""The jobs whose files are taken over, and the depth of these files in the folder of their kind.

All else is made from these in seconds.
"""

DIGESTS = {
    "code": "different source code",
    "algorithm_file": "a different algorithm file",
    "theta": "evaluations of different training records",
    "answers": "a different file of predictions",
}
"""Entries of headers that are digests, and what it means if one differs."""

SHOWN = 3
"""The most differing settings that a reason names; the rest are counted."""

UNSET = "not set"
"""The value of a setting that only the other side has."""

Refused = defaultdict[tuple[str, Path], list[Path]]
"""Places of the records that were not imported, by reason and folder."""


class Merged(NamedTuple):
    """The result of a merge.

    Args:
        taken: Imported records.
        known: Records that already existed.
        missing: Records that fit in no folder.
        refused: Why records were not imported, one line per reason and folder.
    """

    taken: int
    known: int
    missing: int
    refused: list[str]


def merge(running: Running, folders: Sequence[Path]) -> Merged:
    """Import the records that fit a study from other result folders.

    Of records of the same job, the first is kept: the study's own, then in the order of folders.
    The time that its job took comes with it.

    Args:
        running: The study, whose folder gets the records.
        folders: Folders of results of the same study, for instance ``there/results/flux``.

    Returns:
        The number of records by outcome, and why others were refused. Each record in the folders
        is imported, a copy of one that is kept, or refused.

    Raises:
        ArtifactError: The study is running, or a folder has no records or is the study's own.
        OSError: A record cannot be written.
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
    """Import what fits, each record after its inputs, and return the outcome."""
    root = running.layout.root
    wanted = {artefact.path.relative_to(root): artefact for artefact in _wanted(running)}
    found = {folder: _places(folder) for folder in (root, *folders)}
    refused = Refused(list)
    missing: set[Path] = set()
    counts: Counter[str] = Counter()
    for place, artefact in wanted.items():
        # The expected header of an evaluation contains the digest of its training record, so inputs
        # come first.
        holders = [folder for folder, places in found.items() if place in places]
        first = _first(artefact, place, holders, missing, refused)
        if first is None:
            missing.add(artefact.path)
        elif first == root:
            counts["known"] += 1
        else:
            _take(first, place, root)
            counts["taken"] += 1
    for folder in folders:
        for place in found[folder]:
            if place not in wanted:
                refused[_foreign(running.study, place), folder].append(place)
    # The study replaces its own records that do not fit.
    lines = [_line(*key, places) for key, places in refused.items() if key[1] != root]
    return Merged(counts["taken"], counts["known"], len(missing), lines)


def _take(folder: Path, place: Path, root: Path) -> None:
    """Copy a record, and the time that Snakemake measured for its job, if it did."""
    job = place.with_suffix("").parts
    theirs, ours = (Layout(at).benchmark(*job) for at in (folder, root))
    # If this is interrupted, the record is still missing and is copied again.
    ours.unlink(missing_ok=True)
    if theirs.is_file():
        _copy(theirs, ours)
    _copy(folder / place, root / place)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _wanted(running: Running) -> Iterator[Artefact]:
    """Yield the records that belong in the study's own folder."""
    # The name of the store is irrelevant, because markers of tracking are no records.
    for artefact in artefacts(running, "elsewhere"):
        if artefact.job in RECORDS and artefact.path.is_relative_to(running.layout.root):
            yield artefact


def _places(folder: Path) -> dict[Path, None]:
    """Return the places of the records in a folder, sorted; temporary files are hidden."""
    return {
        Path(kind, name): None
        for kind in RECORDS
        for name in sorted(glob(f"**/*{RECORD}", root_dir=folder / kind, recursive=True))
    }


def _first(
    artefact: Artefact, place: Path, holders: Sequence[Path], missing: set[Path], refused: Refused
) -> Path | None:
    """Return the first folder whose record fits, and refuse those that do not fit or differ."""
    first, kept = None, ""
    for folder in holders:
        try:
            content = _content(folder / place, _expected(artefact, missing))
            if first is not None and content != kept:
                raise ArtifactError(
                    f"content differs from that in {first}, although settings, code and versions "
                    f"are equal"
                )
        except ArtifactError as error:
            refused[str(error), folder].append(place)
            continue
        if first is None:
            first, kept = folder, content
    return first


def _expected(artefact: Artefact, missing: set[Path]) -> Header:
    """Return the header that a record must have; raise ArtifactError if its input is missing."""
    try:
        if not missing.intersection(artefact.made_of):
            return artefact.expected()
    except ArtifactError:
        # That of predictions names their file.
        if artefact.job == "predictions":
            raise
    raise ArtifactError("evaluations without a training record that fits")


def _content(path: Path, expected: Header) -> str:
    """Return the content digest of a record; raise ArtifactError with the reason if it is unfit."""
    try:
        _, header = artifacts.read(path)
    except ArtifactError:
        raise ArtifactError("damaged or unreadable") from None
    for key, value in expected.items():
        if header.get(key) != value:
            raise ArtifactError(_difference(key, header, expected))
    return str(header["content"])


def _difference(key: str, header: Header, expected: Header) -> str:
    """Return how a header differs from the expected one, given the first entry that does."""
    if key in DIGESTS:
        return DIGESTS[key]
    if key == "config":  # the digest of the settings
        theirs, ours = _flat("", header.get("settings", {})), _flat("", expected["settings"])
    else:
        theirs, ours = _flat(key, header.get(key)), _flat(key, expected[key])
    values = {name: (theirs.get(name, UNSET), ours.get(name, UNSET)) for name in ours | theirs}
    differing = [
        f"{name} is {cut(str(their))}, this study has {cut(str(our))}"
        for name, (their, our) in values.items()
        if their != our
    ]
    if more := differing[SHOWN:]:
        differing[SHOWN:] = [f"and {len(more)} more"]
    return "; ".join(differing) or f"different {key}"


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Return nested settings by dotted name."""
    if not isinstance(value, dict):
        return {name: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(f"{name}.{key}".lstrip("."), inner)
    return flat


def _foreign(study: Study, place: Path) -> str:
    """Return why the study has no record at a place."""
    kind, *names = place.with_suffix("").parts
    if len(names) != RECORDS[kind]:
        return "no place of a record"
    if kind == "train" and study.config.trained_in:
        return f"training records, which belong in {study.config.trained_in}"
    if kind == "predictions":
        return "predictions that this study does not have"
    if kind != "baselines" and "/".join(names[:2]) not in {cell.path for cell in study.cells}:
        return "cells that this study does not have"
    if kind == "baselines" or (kind == "evaluate" and names[2] not in study.groups):
        return "groups of protocols that this study does not have"
    seeds, block = study.config.seeds, study.config.seed_block
    return f"other blocks of seeds than this study's, which has {seeds} seeds in blocks of {block}"


def _line(reason: str, folder: Path, places: Sequence[Path]) -> str:
    """Return the line of a reason: the number of its records, and the first of them."""
    if len(places) == 1:
        return f"{reason}: 1 record, {folder / places[0]}"
    return f"{reason}: {len(places)} records ({folder}), the first is {places[0]}"
