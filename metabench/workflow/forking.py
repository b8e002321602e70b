"""Jobs on the machine of the workflow fork from a process that has imported the libraries.

Importing torch takes two seconds, most of the time of a short job. The workflow therefore starts
one process that imports the libraries. Each command requests a fork from it. The fork runs the job
with the command's arguments, folder, environment and streams, and its exit code is the command's.

Each job is still a separate process. It ends with its command, and the command with it. Without a
fork, a command runs its job itself: on other machines, by hand, with a different environment, and
if the source has changed since the process imported it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from select import select
from typing import Any

from metabench.records import provenance

ADDRESS = "METABENCH_FORKS"
"""The environment variable with the path of the socket for requests."""

MODULES = (
    "metabench.jobs",
    "metabench.analysis.tables",
    "metabench.learning.baselines",
    "metabench.learning.training",
    "metabench.records.states",
)
"""The modules imported in advance: everything that training, evaluation and tables need."""

STREAMS = 3
"""Input, output and errors."""

KILLED = 128 + signal.SIGKILL


def start() -> subprocess.Popen[bytes] | None:
    """Start the process, and tell commands how to reach it.

    Returns:
        The process, which ends when its input is closed, so at the latest with the caller. None if
        there cannot be one: only on Linux can a process with these libraries fork safely.
    """
    if sys.platform != "linux":
        return None
    folder = Path(tempfile.mkdtemp(prefix="metabench-"))
    try:
        process = _started(folder)
    except OSError:  # the socket's path is too long for one, say
        shutil.rmtree(folder)
        return None
    os.environ[ADDRESS] = str(folder / "forks")
    return process


def _started(folder: Path) -> subprocess.Popen[bytes]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "forks"))
        listener.listen(100)  # requests wait until the libraries are imported
        program = Path(sys.executable).with_name("metabench")
        return subprocess.Popen(
            [program, "forks", str(listener.fileno()), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != ADDRESS},
            pass_fds=[listener.fileno()],
        )


def exit_code_of_fork() -> int | None:
    """Run this command in a fork; return its exit code, None if there is no fork."""
    address = os.environ.pop(ADDRESS, "")
    if not address:
        return None
    request = {
        "program": _program(),
        "arguments": sys.argv,
        "folder": str(Path.cwd()),
        "variables": dict(os.environ),
    }
    try:
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as replies:
            if connection.fileno() < STREAMS:  # one of the streams is closed
                return None
            connection.connect(address)
            socket.send_fds(connection, [b"\n"], range(STREAMS))
            connection.sendall(json.dumps(request).encode() + b"\n")
            if not replies.readline():
                return None
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fork has it too, and answers
            if code := replies.readline():
                return int(code)
    except OSError:
        return None
    print("metabench: the process of this job was killed", file=sys.stderr)
    return KILLED


def _program() -> list[str]:
    """Return the identity of what runs: the environment, the package and its source."""
    return [sys.prefix, str(provenance.PACKAGE), provenance.package_digest()]


def serve(listener: int, folder: Path, main: Callable[[], None]) -> None:
    """Import the libraries, and fork for each requesting command, until the workflow ends.

    Args:
        listener: File descriptor of the socket for requests.
        folder: Folder of the socket's file; it is removed at the end.
        main: The function that a fork calls; it reads `sys.argv`.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        program = _program()  # before the import: what is changed later was not imported
        for module in MODULES:
            import_module(module)
        _fork_for_each(socket.socket(fileno=listener), program, main)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fork_for_each(listener: socket.socket, program: list[str], main: Callable[[], None]) -> None:
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while True:
        ready, _, _ = select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            try:
                listener.close()
                signal.signal(signal.SIGINT, interrupt)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                _answer(connection, program, main)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        connection.close()


def _answer(connection: socket.socket, program: list[str], main: Callable[[], None]) -> None:
    """Run the job of one command and exit, unless it is for a different program."""
    _, streams, _, _ = socket.recv_fds(connection, 1, STREAMS)
    request = json.loads(connection.makefile("rb").readline())
    if request["program"] != program:
        return
    _take_over(request, streams)
    connection.sendall(b"started\n")
    threading.Thread(target=_exit_with, args=[connection], daemon=True).start()
    code = _exit_code(main)
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(b"%d\n" % code)
    os._exit(code)


def _take_over(request: dict[str, Any], streams: list[int]) -> None:
    """Receive a command's arguments, folder, environment and streams."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    sys.argv = request["arguments"]
    for stream, received in enumerate(streams):
        os.dup2(received, stream)
        os.close(received)


def _exit_code(main: Callable[[], None]) -> int:
    """Call a program's main function; return its exit code."""
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _exit_with(connection: socket.socket) -> None:
    """End this process when its command has ended, which closes the connection."""
    with suppress(OSError):
        while connection.recv(1):
            pass
    os.kill(os.getpid(), signal.SIGKILL)
