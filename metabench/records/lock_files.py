"""Lock files for file systems without locks.

Such a file is created only if it does not exist, which every file system supports, and removed at
the end. It names the process and machine that hold the lock, and the process keeps renewing its
time. A stale file is detected at once on the machine of its dead process, and on other machines by
a time that no longer changes. Times are compared with that of a new file in the same folder,
because the clocks of machines differ.
"""

from __future__ import annotations

import atexit
import os
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from platform import node
from tempfile import TemporaryFile
from threading import Event, Thread

SUFFIX = ".held"
ASK = 0.5
"""Seconds between attempts to take a lock that another process holds."""
RENEW = 10.0
"""Seconds between renewals of the file's time by its holder."""
# Network file systems may show a time up to a minute late, so this is much more than RENEW.
DEAD = 120.0
"""Seconds after which a file that was not renewed counts as abandoned."""


def take(path: Path, wait: bool) -> ExitStack:
    """Take the lock of a file; it is held until the result is closed or the process ends.

    Raises:
        BlockingIOError: Another process holds it, and waiting was not requested.
        OSError: The file cannot be written.
    """
    held, identity = _beside(path), _identity(os.getpid())
    while not _make(held, identity):
        if _remove_dead(held):
            continue
        if not wait:
            raise BlockingIOError
        time.sleep(ASK)
    lock, ended = ExitStack(), Event()
    # Callbacks run in reverse order: renewing stops before the file is removed, since the next
    # holder may create it at once.
    lock.callback(_give_back, held, identity)
    lock.callback(ended.set)
    # A daemon thread does not keep a finished process alive.
    Thread(target=_renew, args=(held, ended), daemon=True).start()
    # Only a killed process leaves its file behind; any other end of the process removes it.
    atexit.register(lock.close)
    return lock


def holder(path: Path) -> str | None:
    """Return who holds the lock of a file by a lock file, and the remedy; None if nobody does."""
    held = _beside(path)
    try:
        machine, process, _ = _read(held)
    except FileNotFoundError:
        return None
    where = "" if machine == node() else f" on {machine}"
    return f"{process}{where} (if it has ended, delete {held})"


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _make(held: Path, identity: str) -> bool:
    """Create the file; return False if it exists."""
    try:
        # Mode "x" checks and creates in one operation, so two processes cannot both succeed.
        file = held.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(identity)
    except OSError:
        # An empty file would belong to nobody, and only its age could remove it.
        held.unlink(missing_ok=True)
        raise
    return True


def _renew(held: Path, ended: Event) -> None:
    """Renew the time of the file until the lock is released."""
    while not ended.wait(RENEW):
        with suppress(OSError):
            # A failed renewal is repeated long before the file counts as abandoned.
            os.utime(held)


def _give_back(held: Path, identity: str) -> None:
    """Remove the file if it is still this process's: not in a fork, nor after it was lost."""
    with suppress(FileNotFoundError):
        if identity == _identity(os.getpid()) == " ".join(_read(held)):
            held.unlink()


def _remove_dead(held: Path) -> bool:
    """Remove the file if its process is dead; return whether to try again.

    Only one process may do so at a time: a slower one would remove the file that a faster one has
    since created. It is the one that creates the file `removing`.
    """
    try:
        if not _dead(held):
            return False
        removing = held.with_name(f"{held.name}.removing")
        if not _make(removing, ""):
            # The process that created it may have been killed just then.
            if _silent(removing):
                removing.unlink(missing_ok=True)
            return False
        try:
            # Since the first look, another process may have removed the file and taken the lock.
            if _dead(held):
                held.unlink()
        finally:
            removing.unlink(missing_ok=True)
    except FileNotFoundError:
        pass  # it was given back in the meantime
    return True


def _dead(held: Path) -> bool:
    """Return whether the process that made the file has ended."""
    machine, process, started = _read(held)
    # This machine knows its processes. Of others only the age of the file is known.
    if machine == node():
        return _identity(int(process)) != f"{machine} {process} {started}"
    return _silent(held)


def _silent(held: Path) -> bool:
    """Return whether the time of the file has not been renewed for too long."""
    # Both times are those of the file server, whose clock may differ from ours.
    with TemporaryFile(dir=held.parent) as new:
        return os.fstat(new.fileno()).st_mtime - held.stat().st_mtime > DEAD


def _read(held: Path) -> tuple[str, str, str]:
    """Return machine, process and start time; an unknown machine if the file is not ours."""
    words = held.read_text(encoding="utf-8", errors="replace").split(" ")
    if len(words) != 3 or not words[1].isdecimal():
        # A machine that is not this one leaves the decision to the age of the file.
        return "an unknown machine", "unknown", ""
    return words[0], words[1], words[2]


def _identity(process: int) -> str:
    """Return what identifies a living process among all machines; empty if it is dead.

    Process numbers are reused, so the start time is part of the identity. Linux gives it in ticks
    since boot.
    """
    try:
        # Signal 0 is not delivered: it only asks whether the process exists.
        os.kill(process, 0)
    except PermissionError:
        pass  # it is somebody else's, and lives
    except (ProcessLookupError, OverflowError):
        return ""
    started = "-"
    with suppress(OSError):
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
        # The name of the program stands in parentheses and may contain spaces and parentheses. The
        # start time is field 22 of all, the 20th after the name.
        started = stat.rpartition(")")[2].split()[19]
    return f"{node()} {process} {started}"
