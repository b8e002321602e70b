"""Which files of a study are not what the study would make now.

Each artefact says what it was made from: settings, source, versions, and the content of what it is
made of. That alone decides. Times of files do not, nor what Snakemake remembers, so results may be
touched, copied or restored, and looking changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from metabench.records import artifacts
from metabench.records.artifacts import ArtifactError
from metabench.workflow.artefacts import Artefact


def outdated(artefacts: Iterable[Artefact]) -> dict[Path, str]:
    """Return the files that are there and must be rebuilt, each with the reason.

    Whether the arrays of a record are whole is seen by whoever reads them. Tables and figures are
    compared here with the digests in their manifest.

    Args:
        artefacts: Of a study, each after those that it is made of.
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
    """Return why a file must be rebuilt, None where it is what it must be."""
    for path in artefact.made_of:
        if path in rebuilt or path in missing:
            return f"{artefact.path} is made of {path}, which is rebuilt"
    try:
        header, expected = artefact.read(artefact.path), artefact.expected()
        return artifacts.difference(artefact.path, header, expected)
    except ArtifactError as error:
        return str(error)
