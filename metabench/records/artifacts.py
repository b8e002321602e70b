"""Files of arrays: safetensors with one header, written atomically, rejected if a byte is wrong.

No pickle is read anywhere. The header records the inputs of the arrays and a digest of the arrays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from hashlib import sha256
from pathlib import Path
from platform import node
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

Arrays = dict[str, NDArray[Any]]
Header = dict[str, Any]

AGAIN = "delete the file and run the study again"
"""The remedy for a file that is not what it should be."""


class ArtifactError(Exception):
    """A file that is missing, damaged, or has different inputs than expected."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name next to a path, and rename it to the path on success.

    Raises:
        OSError: The file cannot be written; an existing file is untouched.
    """
    path = Path(path)
    # The suffix stays last, since some writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{node()}-{os.getpid()}{path.suffix}")
    try:
        # os.replace would turn a device such as /dev/null into a file.
        if path.exists() and not path.is_file():
            raise OSError("it is not a regular file")
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        try:
            yield temporary
            # Some writers create files that only their owner can read.
            temporary.chmod(0o666 & ~_umask())
            with temporary.open("rb") as file:
                # Without it, the file could be empty after a power failure although it was renamed.
                # A full disk may also report its error only now.
                os.fsync(file)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file, unless it already has this content; raise OSError as `replacing` does."""
    if not (path.is_file() and path.read_bytes() == text.encode()):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    """Return the umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sweep(path: Path) -> None:
    """Delete temporary files that killed processes of this machine left behind."""
    mine = f".{path.stem}.{node()}-"
    for left in path.parent.glob(f"{escape(mine)}*{escape(path.suffix)}"):
        if not _alive(left.name.removeprefix(mine).removesuffix(path.suffix)):
            left.unlink(missing_ok=True)


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def content_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a digest of names, types, shapes and bytes."""
    total = sha256()
    # Neither the order of the names nor the strides of a view may change the digest.
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.data)
    # 64 bits detect damage and mistaken files; the digest is no protection against forgery.
    return total.hexdigest()[:16]


def write(path: str | Path, arrays: Mapping[str, NDArray[Any]], header: Header) -> None:
    """Write arrays under a header; equal arrays and headers give equal bytes."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps({**header, "content": content_digest(contiguous)}, sort_keys=True)
    with replacing(path) as temporary:
        # One metadata key: the library writes several in random order. Its own writer leaves files
        # if it is killed.
        temporary.write_bytes(save(contiguous, metadata={"metabench": text}))


def read(path: str | Path) -> tuple[Arrays, Header]:
    """Read arrays and their header.

    Raises:
        ArtifactError: The file is missing, damaged or not an artefact.
    """
    with _opened(path) as (file, header):
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if header.get("content") != content_digest(arrays):
        raise ArtifactError(
            f"{path} is damaged: its arrays do not match the digest in its header; {AGAIN}"
        )
    return arrays, header


def read_header(path: str | Path) -> Header:
    """Read only the header: quick, but damaged arrays go unnoticed; raise as `read` does."""
    with _opened(path) as (_, header):
        return header


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, Header]]:
    try:
        with safe_open(path, framework="numpy") as file:
            # A foreign file has no metadata (KeyError) or metadata that are no JSON object
            # (ValueError, TypeError).
            yield file, dict(json.loads((file.metadata() or {})["metabench"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path} is not a readable artefact of metabench: {type(error).__name__}: {error}"
        ) from None


def difference(path: str | Path, header: Header, expected: Header) -> str | None:
    """Return the first entry in which a header differs from the expected one, as a sentence.

    None if none differs.
    """
    for key, value in expected.items():
        if header.get(key) != value:
            return (
                f"{path} was produced with a different {key}: expected {value}, "
                f"found {header.get(key)}"
            )
    return None


def require(path: str | Path, header: Header, expected: Header) -> None:
    """Reject an artefact with different settings, source or versions.

    Raises:
        ArtifactError: The message names the first entry that differs.
    """
    if reason := difference(path, header, expected):
        raise ArtifactError(f"{reason}; {AGAIN}")
