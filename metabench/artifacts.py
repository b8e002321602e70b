"""Files of arrays: safetensors with one header, written atomically, refused if a byte is wrong.

No pickle is read anywhere. The header says what the arrays were made from; a digest of the arrays stands in it too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

Arrays = dict[str, NDArray[Any]]
Header = dict[str, Any]


class ArtifactError(Exception):
    """A file that is missing, damaged, or made from something else."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside a path, and rename it to the path when all went well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")  # the suffix tells writers the format
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def content_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a digest of names, types, shapes and bytes."""
    total = sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.data)
    return total.hexdigest()[:16]


def write(path: str | Path, arrays: Mapping[str, NDArray[Any]], header: Header) -> None:
    """Write arrays under a header; equal arrays and headers give equal bytes."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps({**header, "content": content_digest(contiguous)}, sort_keys=True)
    with replacing(path) as temporary:
        # One metadata key: the library writes several in random order.
        save_file(contiguous, temporary, metadata={"metabench": text})


def read(path: str | Path) -> tuple[Arrays, Header]:
    """Read arrays and their header.

    Raises:
        ArtifactError: The file is missing or damaged, or not one of ours.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = dict(json.loads((file.metadata() or {})["metabench"]))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path} is not a readable artefact of metabench: {type(error).__name__}: {error}"
        ) from None
    if header.get("content") != content_digest(arrays):
        raise ArtifactError(f"{path} is damaged: its arrays do not match the digest in its header")
    return arrays, header


def require(path: str | Path, header: Header, expected: Header) -> None:
    """Refuse an artefact that was made from other settings, source or versions.

    Raises:
        ArtifactError: Names the first entry that differs.
    """
    for key, value in expected.items():
        if header.get(key) != value:
            raise ArtifactError(
                f"{path} was made from another {key}: it must be {value}, the file says {header.get(key)}; "
                "delete the file and run the study again"
            )
