"""Determine the store, and whether it still has the study.

The store is read without importing MLflow, and without changing it.

At every start, including dry runs, Snakemake asks for the name of the store. The markers of
finished tracking jobs are in a folder of that name, so a store with a new name is filled from the
beginning:

    name = digest of the URI - generation

The study's experiment has its generation as a tag. If experiment or tag is gone, the next
generation begins.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from metabench.records import locks
from metabench.records.artifacts import ArtifactError, Header, replacing
from metabench.records.provenance import digest
from metabench.views.tracking import rest
from metabench.views.tracking.rest import SECONDS, StoreError

ARTIFACTS_TAG = "metabench.artifacts"
"""Tag of an experiment: the folder of its artifacts, if metabench chose it."""

DIGEST_TAG = "metabench.digest"
"""Tag of a run: a digest of everything that it shows."""

SQLITE = "sqlite:///"

BUSY = 30.0
"""Seconds to wait for a server before writing to it, which others may be using."""


def uri_of(root: Path) -> str:
    """Return MLFLOW_TRACKING_URI or, if it is not set, the study's own sqlite file."""
    return (
        os.environ.get("MLFLOW_TRACKING_URI", "").strip()
        or f"{SQLITE}{(root / 'mlflow.db').as_posix()}"
    )


def program(name: str) -> str:
    """Return the command to type here for a program next to this interpreter."""
    return str(here(Path(sys.executable).with_name(name)))


def here(path: Path) -> Path:
    """Return a path for a user here: relative to this folder if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def database(uri: str) -> Path | None:
    """Return the file of a sqlite store, None for any other."""
    return (
        Path(unquote(uri.removeprefix(SQLITE).partition("?")[0]))
        if uri.startswith(SQLITE)
        else None
    )


def absolute(uri: str) -> str:
    """Return a URI that means the same store in every folder.

    MLflow keeps one open database for each URI of a process. A relative path would keep meaning the
    file in the folder where it was first used.
    """
    file = database(uri)
    return uri.replace(file.as_posix(), file.absolute().as_posix(), 1) if file else uri


def artifact_folder(uri: str) -> str | None:
    """Return where a sqlite store's artifacts belong, next to it; None if the store decides."""
    file = database(uri)
    return str(file.resolve().parent / "mlartifacts") if file else None


def prefix(uri: str) -> str:
    """Return the part of a store's name that represents its URI.

    The password is left out: names of stores are public, and it may change.
    """
    return digest(rest.hidden(uri).rstrip("/"))[:8]


def generation_tag(uri: str) -> str:
    """Return the experiment tag that holds the generation.

    The same store may be known under several URIs.
    """
    return f"metabench.store.{prefix(uri)}"


def moved(tags: dict[str, str], uri: str) -> bool:
    """Return whether a sqlite store was copied or moved: its experiment has artifacts elsewhere.

    MLflow writes their absolute path into the store.
    """
    folder, now = tags.get(ARTIFACTS_TAG), artifact_folder(uri)
    return None not in (folder, now) and folder != now


def relocate(uri: str) -> None:
    """Make the runs of a sqlite store keep their artifacts next to it, even after a copy.

    Otherwise `mlflow gc` in a copy deletes the artifacts of the original. MLflow offers no way to
    change these paths except in its tables. Experiments whose artifacts metabench did not place are
    left alone.

    Raises:
        StoreError: The file cannot be written.
    """
    file, folder = database(uri), artifact_folder(uri)
    # An empty file has no such table yet, and nothing to relocate.
    if file is None or not _read_only(file, "SELECT 1 FROM experiment_tags LIMIT 1", []):
        return
    strays = "SELECT experiment_id FROM experiment_tags WHERE key = ? AND value <> ?"
    place = f"UPDATE experiments SET artifact_location = ? WHERE experiment_id IN ({strays})"
    runs = (
        "UPDATE runs SET artifact_uri = ? || '/' || run_uuid || '/artifacts'"
        f" WHERE experiment_id IN ({strays})"
    )
    tags = "UPDATE experiment_tags SET value = ? WHERE key = ? AND value <> ?"
    try:
        with closing(sqlite3.connect(file, timeout=SECONDS)) as connection, connection:
            # The tags change last, because the other statements find the strays by them.
            for statement in (runs, place, tags):
                connection.execute(statement, [folder, ARTIFACTS_TAG, folder])
    except sqlite3.DatabaseError as error:
        raise StoreError(error) from None


def lost(uri: str, study: str) -> bool:
    """Return whether a finished run in a sqlite store has no artifacts next to it."""
    file, folder = database(uri), artifact_folder(uri)
    if file is None or folder is None:
        return False
    query = (
        "SELECT run_uuid FROM experiments"
        " JOIN runs USING (experiment_id) JOIN tags USING (run_uuid)"
        " WHERE experiments.name = ? AND experiments.lifecycle_stage = 'active'"
        " AND runs.lifecycle_stage = 'active' AND runs.status = 'FINISHED' AND tags.key = ?"
    )
    found = _read_only(file, query, [study, DIGEST_TAG])
    return not all(any(Path(folder, run, "artifacts").glob("*")) for (run,) in found)


def store_name(root: Path, study: str) -> str:
    """Return the name of the store that tracking has to fill.

    Args:
        root: The study's folder.
        study: Its name, and the experiment's.

    If the store cannot be read, the newest known name for its URI is assumed: nothing is replanned,
    and pending tracking jobs will report the error.
    """
    uri = uri_of(root)
    known = _generations(root / "track", prefix(uri))
    try:
        tags = _experiment_tags(uri, study)
    except StoreError:
        return f"{prefix(uri)}-{max(known, default=1)}"
    generation = tags.get(generation_tag(uri))
    placed = ARTIFACTS_TAG in tags
    # Artifacts that metabench did not place may be anywhere, so they are not looked for.
    if generation is None or moved(tags, uri) or (placed and lost(uri, study)):
        return f"{prefix(uri)}-{max(known, default=0) + 1}"
    return f"{prefix(uri)}-{generation}"


def write_marker(path: Path, header: Header, content: dict[str, Any]) -> None:
    """Write a marker: what is in the store, and its inputs.

    It contains nothing that differs between runs.
    """
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps({**header, **content}, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )


def read_marker(path: Path) -> dict[str, Any]:
    """Read a marker; raise ArtifactError if it does not exist or is not a marker."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"{path} is not a marker of metabench: {type(error).__name__}: {error}"
        ) from None


def _generations(folder: Path, uri_prefix: str) -> list[int]:
    """Return the generations of a URI for which at least one tracking job has finished."""
    found = [path for path in folder.glob(f"{uri_prefix}-*") if next(path.rglob("*.json"), None)]
    return [int(number) for path in found if (number := path.name.rpartition("-")[2]).isdecimal()]


def _experiment_tags(uri: str, study: str) -> dict[str, str]:
    """Return the tags of a study's experiment, empty if there is none.

    Raises StoreError if nobody answers.
    """
    file = database(uri)
    if file:
        return _sqlite_tags(file, study)
    if rest.is_server(uri):
        return _server_tags(uri, study)
    raise StoreError(f"{rest.hidden(uri)} cannot be read without a driver")


def require_answer(uri: str, study: str) -> None:
    """Raise StoreError at once if a sqlite file cannot be written or a server does not answer."""
    if file := database(uri):
        try:
            with closing(
                sqlite3.connect(file, timeout=SECONDS, isolation_level=None)
            ) as connection:
                # This takes the write lock, so a read-only file or another writer shows before any
                # work.
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            raise StoreError(error) from None
    elif rest.is_server(uri):
        rest.experiment(uri, study, BUSY)


def experiment(uri: str, study: str) -> str | None:
    """Return the number of a study's experiment, None if there is none.

    Raises:
        StoreError: Nobody answers.
    """
    file = database(uri)
    if file is None:
        found = rest.experiment(uri, study)
        return str(found["experiment_id"]) if found else None
    query = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
    rows = _read_only(file, query, [study])
    return str(rows[0][0]) if rows else None


def _sqlite_tags(file: Path, study: str) -> dict[str, str]:
    query = (
        "SELECT key, value FROM experiments JOIN experiment_tags USING (experiment_id)"
        " WHERE name = ? AND lifecycle_stage = 'active'"
    )
    return dict(_read_only(file, query, [study]))


def _read_only(file: Path, query: str, values: list[str]) -> list[Any]:
    """Return the rows of a query, none if there is no database yet; change nothing."""
    if not file.is_file():
        return []
    try:
        # A path may contain ? or #, which have a meaning in a URI.
        address = f"file:{quote(str(file.absolute()))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=SECONDS)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise StoreError(error) from None
    except sqlite3.DatabaseError:  # not a database: planned again, so that it is not skipped
        return []


def _server_tags(uri: str, study: str) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in rest.experiment(uri, study).get("tags", [])}


@contextmanager
def only_writer(root: Path, uri: str) -> Iterator[None]:
    """Hold the store's lock: one writer at a time across all processes.

    The lock is released when its process ends.
    """
    file = database(uri)
    # Studies may share a sqlite file, so its lock is beside it. A server orders requests itself,
    # and only the jobs of this study must not interfere.
    path = file.with_name(f"{file.name}.lock") if file else root / "track" / ".lock"
    with locks.alone(path, f"which writes to {rest.hidden(uri)}"):
        yield
