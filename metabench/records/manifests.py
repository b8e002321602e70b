"""The manifest of a folder: the inputs of its files, and the digest of each.

Other programs read tables and figures, so the information that arrays have in their header is in a
separate file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from metabench.records.artifacts import ArtifactError, Header, replacing
from metabench.records.provenance import config_digest

NAME = "manifest.json"


def write(folder: Path, names: Iterable[str], header: Header) -> None:
    """Write the manifest of files of a folder with their inputs."""
    files = {name: file_digest(folder / name) for name in sorted(names)}
    text = json.dumps(
        {**header, "content": config_digest(files), "files": files}, indent=2, sort_keys=True
    )
    with replacing(folder / NAME) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> Header:
    """Read the manifest of a folder, and check every file against it.

    Raises:
        ArtifactError: There is none, or a file is missing or differs from its digest in the
            manifest.
    """
    path = folder / NAME
    try:
        header = dict(json.loads(path.read_text(encoding="utf-8")))
        files = dict(header["files"])
    except FileNotFoundError:
        raise ArtifactError(
            f"{path} does not exist: {folder} holds no finished tables or figures of a study; run "
            f"the study first: make benchmark STUDY=NAME"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"{path} is not a manifest of metabench: {type(error).__name__}: {error}"
        ) from None
    if header.get("content") != config_digest(files):
        raise ArtifactError(f"{path} is damaged: it does not match its own digest")
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder / name} is missing, but {path} names it")
        if file_digest(folder / name) != expected:
            raise ArtifactError(
                f"{folder / name} is damaged or was changed: its bytes do not match {path}"
            )
    return header


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file; raise OSError if it cannot be read."""
    return sha256(path.read_bytes()).hexdigest()
