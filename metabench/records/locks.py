"""Locks that end with the process that holds them, however it ends: the kernel keeps them.

Where a file system cannot lock, a file takes the place of a lock: see `lock_files`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from metabench.records import lock_files

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems answer that cannot lock."""

_warned: set[Path] = set()


def take(path: Path) -> ExitStack | None:
    """Take the lock of a file at once; it is held until what is returned is closed.

    Returns:
        What holds it, or None where another process does.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        return _locked(path, wait=False)
    except BlockingIOError:
        return None


def _locked(path: Path, wait: bool) -> ExitStack:
    """Open a file, lock it, and write into it who holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                _warn(path.parent, error)
                return lock_files.take(path, wait)
            os.truncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
            return stack.pop_all()
    except BlockingIOError:
        raise
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None


def _warn(folder: Path, error: OSError) -> None:
    """Say, once of a folder, that its file system cannot lock and what is done instead."""
    if folder not in _warned:
        _warned.add(folder)
        print(
            f"warning: {folder} is on a file system without locks ({error.strerror}); files that end in"
            f" {lock_files.SUFFIX} take their place",
            file=sys.stderr,
            flush=True,
        )


def holder(path: Path) -> str:
    """Return the process that last took the lock of a file, for messages."""
    found = lock_files.holder(path)
    return found or path.read_text(encoding="utf-8") or "unknown"


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a file; where another process holds it, say what is waited for, and wait.

    Args:
        path: The file of the lock.
        what: What only one process may do at a time.

    Raises:
        OSError: The file cannot be written.
    """
    lock = take(path)
    if lock is None:
        print(f"waiting for process {holder(path)}, {what}", file=sys.stderr, flush=True)
        lock = _locked(path, wait=True)
    with lock:
        yield
