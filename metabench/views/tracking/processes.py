"""Start a server in a session of its own, wait until it answers, and end it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from metabench.records.artifacts import ArtifactError

HOST = "127.0.0.1"
"""This machine only."""

PORT = 5000
"""Where MLflow listens unless told otherwise; also the Makefile's default."""

WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""MLflow's own jobs, of which tracking needs none, would be further processes."""

SECONDS = 180.0
"""Seconds to wait for a server, which a busy machine imports slowly."""


def require_free(port: int) -> None:
    """Raise ArtifactError if somebody listens on a port of this machine."""
    with socket.socket() as taken:
        if not taken.connect_ex((HOST, port)):
            raise ArtifactError(f"port {port} is in use; choose another with --port")


@contextmanager
def serving(
    name: str,
    command: Sequence[str],
    log: BinaryIO,
    ready: Callable[[], bool],
    variables: Mapping[str, str],
    user: str | None = None,
    ending: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server while the body runs, and end it with everything that it started.

    Args:
        name: What a message calls it.
        command: Its command line.
        log: What it prints goes here.
        ready: Whether it answers.
        variables: Environment variables, besides those of this process.
        user: Who runs it, if not this process's user.
        ending: The signal that asks it to end.

    Raises:
        ArtifactError: It does not start.
    """
    began = log.seek(0, os.SEEK_END)
    process = subprocess.Popen(
        command,
        env={**os.environ, **WITHOUT_JOBS, **variables},
        stdout=log,
        stderr=log,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ArtifactError(f"{name} does not start: {_last_line(log, began)}")
            time.sleep(0.2)
        yield process
    finally:
        _end(process, ending)
        # Workers close their port moments after the process that started them has ended.
        while ready() and time.monotonic() < deadline:
            time.sleep(0.2)


def answers(address: str) -> bool:
    """Return whether MLflow's server answers at an address."""
    try:
        urllib.request.urlopen(f"{address}/health", timeout=5).close()
    except OSError:
        return False
    return True


def mlflow(port: int, *options: str) -> list[str]:
    """Return the command of MLflow's server on this machine."""
    program = Path(sys.executable).with_name("mlflow")
    return [str(program), "server", "--host", HOST, "--port", str(port), *options]


def _last_line(log: BinaryIO, began: int) -> str:
    log.seek(began)
    lines = log.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else "it printed nothing"


def _end(process: subprocess.Popen[bytes], ending: signal.Signals) -> None:
    """End a server and its workers, by force if necessary."""
    for number in (ending, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
            return
