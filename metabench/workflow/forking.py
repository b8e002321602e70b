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

LIBRARIES = "scipy.interpolate", "scipy.optimize"
"""What baselines import only when they fit something, as each of their jobs does."""

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
    # Only its owner can enter this folder, so no other user can request a fork.
    folder = Path(tempfile.mkdtemp(prefix="metabench-"))
    try:
        process = _started(folder)
    # The path of a socket has a limit of about 100 characters, for instance.
    except OSError:
        shutil.rmtree(folder)
        return None
    os.environ[ADDRESS] = str(folder / "forks")
    return process


def _started(folder: Path) -> subprocess.Popen[bytes]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "forks"))
        # Requests wait in this queue until the libraries are imported.
        listener.listen(100)
        program = Path(sys.executable).with_name("metabench")
        return subprocess.Popen(
            [program, "forks", str(listener.fileno()), folder],
            stdin=subprocess.PIPE,
            # Each fork receives the streams of its command and needs none of this process.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # The process must not request a fork of itself.
            env={name: value for name, value in os.environ.items() if name != ADDRESS},
            pass_fds=[listener.fileno()],
        )


def exit_code_of_fork() -> int | None:
    """Run this command in a fork; return its exit code, None if there is no fork."""
    # Programs that the job starts must not request forks.
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
            # Without a reply nothing has started, so the command can run the job itself.
            if not replies.readline():
                return None
            # Ctrl-C reaches the fork as well, whose exit code is the answer to it.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if code := replies.readline():
                return int(code)
    except OSError:
        return None
    # The job has started, so running it here could write the same files twice.
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
    # The default action would end the process without removing the folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        # Source that changes during the import must not pass as imported, so it is read before.
        program = _program()
        for module in (*MODULES, *LIBRARIES):
            import_module(module)
        # Each job names its source, and finding what imports what takes a quarter of a second.
        provenance.code_digest(*MODULES)
        _fork_for_each(socket.socket(fileno=listener), program, main)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fork_for_each(listener: socket.socket, program: list[str], main: Callable[[], None]) -> None:
    # Ctrl-C reaches all processes of the terminal, but this one ends with the workflow.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nobody waits for the forks. If ignored, they leave no zombies.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            try:
                # A fork must not keep the socket open after the process has ended.
                listener.close()
                signal.signal(signal.SIGINT, interrupt)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                _answer(connection, program, main)
            except BaseException:
                traceback.print_exc()
            finally:
                # sys.exit would run the exit handlers that the fork inherited.
                os._exit(1)
        connection.close()


def _answer(connection: socket.socket, program: list[str], main: Callable[[], None]) -> None:
    """Run the job of one command and exit, unless it is for a different program."""
    _, streams, _, _ = socket.recv_fds(connection, 1, STREAMS)
    request = json.loads(connection.makefile("rb").readline())
    if request["program"] != program:
        return
    _take_over(request, streams)
    # This must precede the job: afterwards the command no longer runs the job itself.
    connection.sendall(b"started\n")
    threading.Thread(target=_exit_with, args=[connection], daemon=True).start()
    code = _exit_code(main)
    # The command ends when it receives the code, so all output must be written before.
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
        # This is Python's own rule: sys.exit() is 0, and sys.exit(text) is 1.
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
