"""Locks that are released when the process that holds them ends: the kernel keeps them.

On a file system that cannot lock, a file replaces the lock: see `lock_files`.
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
"""Errors of file systems that cannot lock."""

# A process takes several locks in one folder, and one warning is enough.
_warned: set[Path] = set()


def take(path: Path) -> ExitStack | None:
    """Take the lock of a file without waiting; it is held until the result is closed.

    Returns:
        The held lock, or None if another process holds it.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        return _locked(path, wait=False)
    except BlockingIOError:
        return None


def _locked(path: Path, wait: bool) -> ExitStack:
    """Open a file, lock it, and write the holder into it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            # Mode "a+" keeps the number of the present holder until the lock is ours.
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            try:
                # flock belongs to the open file. A lock of lockf would be lost as soon as this
                # process closes any descriptor of the file, as `holder` does.
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                _warn(path.parent, error)
                return lock_files.take(path, wait)
            # The number bypasses the text buffer, because a waiting process reads it while the file
            # is open.
            os.truncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
            # The file must stay open after this block: closing it would release the lock.
            return stack.pop_all()
    except BlockingIOError:
        # A lock held elsewhere is an OSError too, but nothing is wrong with the file.
        raise
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None


def _warn(folder: Path, error: OSError) -> None:
    """Warn once per folder that its file system cannot lock, and what replaces the lock."""
    if folder not in _warned:
        _warned.add(folder)
        print(
            f"warning: {folder} is on a file system without locks ({error.strerror}); "
            f"files that end in {lock_files.SUFFIX} take their place",
            file=sys.stderr,
            flush=True,
        )


def holder(path: Path) -> str:
    """Return the process that last took the lock of a file, for messages."""
    found = lock_files.holder(path)
    # A new holder may have the lock already and not have written its number yet.
    return found or path.read_text(encoding="utf-8") or "unknown"


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a file; if another process holds it, say so and wait.

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
