"""MLflow's own user interface, opened at a study's runs.

By default MLflow shows its page for language models; the address here is that of the table of runs.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from metabench.records.artifacts import ArtifactError
from metabench.views.tracking import store
from metabench.views.tracking.store import StoreError

HOST = "127.0.0.1"

SECONDS = 180.0
"""Seconds to wait for a server, which a busy machine imports slowly."""


def page(server: str, experiment: str) -> str:
    """Return the address of an experiment's runs.

    Example:
        >>> page("http://127.0.0.1:5000", "1")
        'http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning'
    """
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?workflowType=machine_learning"


def experiment(root: Path, study: str) -> str:
    """Return the number of a study's experiment; raise ArtifactError if it is not tracked."""
    uri = store.uri_of(root)
    try:
        found = store.experiment(uri, study)
    except StoreError as error:
        raise ArtifactError(f"{store.shown(uri)} cannot be read: {error}") from None
    if found is None:
        raise ArtifactError(f"the study {study} is not in {store.shown(uri)}; run it first")
    return found


class Server(NamedTuple):
    """A server of MLflow.

    Args:
        address: Its address.
        process: Its process, if it was started here.
    """

    address: str
    process: subprocess.Popen[bytes] | None


@contextmanager
def serving(root: Path, port: int) -> Iterator[Server]:
    """Serve a study's store while the body runs.

    A store that is itself a server is not served again.

    Args:
        root: The study's folder.
        port: Port to listen on, on this machine only.

    Raises:
        ArtifactError: The port is taken, or MLflow does not start.
    """
    uri = store.uri_of(root)
    if store.is_server(uri):
        yield Server(store.shown(uri), None)
        return
    with socket.socket() as taken:
        if not taken.connect_ex((HOST, port)):
            raise ArtifactError(f"port {port} is in use; choose another with --port")
    with TemporaryFile() as log, _server(store.absolute(uri), port, log.fileno()) as process:
        address = f"http://{HOST}:{port}"
        deadline = time.monotonic() + SECONDS
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                *_, last = log.read().decode(errors="replace").splitlines() or [
                    "it printed nothing"
                ]
                raise ArtifactError(f"MLflow does not start: {last}")
            time.sleep(0.2)
        yield Server(address, process)


@contextmanager
def _server(uri: str, port: int, log: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server, and end it with everything that it started."""
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--workers", "1"]
    command += ["--backend-store-uri", uri, "--host", HOST, "--port", str(port)]
    without_jobs = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        command, env=without_jobs, stdout=log, stderr=log, start_new_session=True
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and its workers, by force if necessary."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
            return


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/health", timeout=5).close()
    except OSError:
        return False
    return True
