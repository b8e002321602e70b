"""Locks that end with the process that holds them, however it ends: the kernel keeps them, not a
file left behind.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO


def take(path: Path) -> IO[str] | None:
    """Take the lock of a file at once; it is held until what is returned is closed, or the process
    ends.

    Returns:
        The open file, or None where another process holds the lock.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _locked(path: Path, how: int) -> IO[str]:
    """Open a file, lock it, and write into it who holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            fcntl.flock(file, how)
            os.truncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
            stack.pop_all()
            return file
    except BlockingIOError:
        raise
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None


def holder(path: Path) -> str:
    """Return the process that last took the lock of a file, for messages."""
    return path.read_text(encoding="utf-8") or "unknown"


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a file; where another process holds it, say what is waited for, and wait.

    Args:
        path: The file of the lock.
        what: What only one process may do at a time.

    Raises:
        OSError: The file cannot be written.
    """
    file = take(path)
    if file is None:
        print(f"waiting for process {holder(path)}, {what}", file=sys.stderr, flush=True)
        file = _locked(path, fcntl.LOCK_EX)
    with file:
        yield
