"""Jobs on the machine of the workflow fork from a process that has imported the libraries.

To import torch takes two seconds, most of what a short job takes. The workflow starts one process
that has done it. Each command asks it for a fork, which does the job with the command's arguments,
folder, environment and streams, and whose exit code is the command's.

A job stays a process of its own. It ends with its command, and its command with it. Where no fork
is to be had, on other machines and by hand, a command does its job itself.
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
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from select import select

ADDRESS = "METABENCH_FORKS"
"""The environment variable that says where to ask: the path of a socket."""

MODULES = (
    "metabench.jobs",
    "metabench.analysis.tables",
    "metabench.learning.baselines",
    "metabench.learning.training",
    "metabench.records.states",
)
"""What is imported beforehand: all that training, evaluation and tables need."""

STREAMS = 3
"""Input, output and errors."""

KILLED = 128 + signal.SIGKILL


def start() -> subprocess.Popen[bytes]:
    """Start the process, and tell commands where to ask it.

    Returns:
        The process. It ends when its input is closed, so with the one that holds this.
    """
    folder = Path(tempfile.mkdtemp(prefix="metabench-"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "forks"))
        listener.listen(100)  # whoever asks before the libraries are there waits
        program = Path(sys.executable).with_name("metabench")
        process = subprocess.Popen(
            [program, "forks", str(listener.fileno()), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
    os.environ[ADDRESS] = str(folder / "forks")
    return process


def done_by_a_fork() -> int | None:
    """Have a fork do what this command is asked; return its exit code, None if there is no fork."""
    address = os.environ.pop(ADDRESS, None)
    if address is None:
        return None
    request = {"arguments": sys.argv, "folder": str(Path.cwd()), "variables": dict(os.environ)}
    try:
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as answers:
            connection.connect(address)
            socket.send_fds(connection, [b"\n"], range(STREAMS))
            connection.sendall(json.dumps(request).encode() + b"\n")
            if not answers.readline():
                return None
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fork has it too, and answers
            return int(answers.readline() or KILLED)
    except OSError:
        return None


def serve(listener: int, folder: Path, main: Callable[[], None]) -> None:
    """Import the libraries, and fork for each command that asks, until the workflow has ended.

    Args:
        listener: File descriptor of the socket at which commands ask.
        folder: Where the socket's file is; it is removed in the end.
        main: What a fork calls: it reads `sys.argv`.
    """
    try:
        for module in MODULES:
            import_module(module)
        _fork_for_each(socket.socket(fileno=listener), main)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fork_for_each(listener: socket.socket, main: Callable[[], None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while True:
        ready, _, _ = select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            try:
                _do(connection, main)
            finally:
                os._exit(1)
        connection.close()


def _do(connection: socket.socket, main: Callable[[], None]) -> None:
    """Do the job of one command, and end."""
    _, streams, _, _ = socket.recv_fds(connection, 1, STREAMS)
    request = json.loads(connection.makefile("rb").readline())
    for stream, received in enumerate(streams):
        os.dup2(received, stream)
        os.close(received)
    connection.sendall(b"begun\n")
    threading.Thread(target=_end_with, args=[connection], daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    sys.argv = request["arguments"]
    code = _exit_code(main)
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(b"%d\n" % code)
    os._exit(code)


def _exit_code(main: Callable[[], None]) -> int:
    """Call a program's main function; return how it ends."""
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _end_with(connection: socket.socket) -> None:
    """End this process when its command has ended: it closes the connection."""
    while connection.recv(1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
