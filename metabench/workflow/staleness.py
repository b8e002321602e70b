"""Find the stale files of a study: those that differ from what it would produce now.

Each artefact records its inputs: settings, source, versions, and the content of its input files.
These alone decide. File times and Snakemake's metadata play no part, so results may be touched,
copied or restored, and checking changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from metabench.records import artifacts
from metabench.records.artifacts import ArtifactError
from metabench.workflow.artefacts import Artefact


def outdated(artefacts: Iterable[Artefact]) -> dict[Path, str]:
    """Return the existing files that must be rebuilt, each with the reason.

    Damaged arrays of a record are detected when they are read. Tables and figures are compared here
    with the digests in their manifest.

    Args:
        artefacts: Artefacts of a study, each after its inputs.
    """
    rebuilt: dict[Path, str] = {}
    missing: set[Path] = set()
    for artefact in artefacts:
        if not artefact.path.exists():
            missing.add(artefact.path)
        elif reason := _reason(artefact, rebuilt, missing):
            rebuilt[artefact.path] = reason
    return rebuilt


def _reason(artefact: Artefact, rebuilt: dict[Path, str], missing: set[Path]) -> str | None:
    """Return why a file must be rebuilt, None if it is valid."""
    for path in artefact.made_of:
        if path in rebuilt or path in missing:
            return f"{artefact.path} depends on {path}, which is rebuilt"
    try:
        header, expected = artefact.read(artefact.path), artefact.expected()
        return artifacts.difference(artefact.path, header, expected)
    except ArtifactError as error:
        return str(error)
