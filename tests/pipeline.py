"""Real Snakemake runs in a copy of the workflow, and real MLflow servers, with the package under
test.
"""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import forked
from small import ROOT

from metabench.records import manifests

BIN = Path(sys.executable).parent
PARTS = ("Snakefile", "workflow", "profiles", "config", "environment.yml")


def copy(folder: Path) -> Path:
    """Copy what Snakemake needs beside the package."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    return folder


def environment() -> dict[str, str]:
    """Return an unactivated shell's environment: the interpreter's folder is not on the path."""
    # With MAKEFLAGS, a make that tests start warns that it cannot share the jobs of another.
    others = ("MLFLOW", "PYTEST", "MAKE", "MFLAGS")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    return {**kept, "PATH": "/usr/local/bin:/usr/bin:/bin"}


def snakemake(
    folder: Path, *arguments: str, config: str = "config/smoke.yaml", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder to its end, forked from a process that has imported it.

    Args:
        folder: A copy of the workflow.
        arguments: More of the command line; targets first.
        config: The study file.
        variables: Of its environment.
    """
    words = [*arguments, "--configfile", config]
    return forked.run("snakemake", words, folder, environment() | variables)


def snakemake_by_itself(
    folder: Path,
    *arguments: str,
    config: str = "config/smoke.yaml",
    preexec_fn: Callable[[], None] | None = None,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake as a person does; arguments as for `snakemake`, and what to call first."""
    return subprocess.run(
        [str(BIN / "snakemake"), *arguments, "--configfile", config],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment() | variables,
        preexec_fn=preexec_fn,
        check=False,
    )


def digests(folder: Path, *parts: str) -> dict[str, str]:
    """Return the SHA-256 of every file below parts of a study's folder, but for what the manifests
    say of it.
    """
    root = folder / "results" / "smoke"
    files = sorted(
        path
        for part in parts
        for path in (root / part).rglob("*")
        if path.is_file() and path.name != manifests.NAME
    )
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


class Server(NamedTuple):
    """A running MLflow server."""

    address: str
    process: subprocess.Popen[bytes]
    """It leads a process group of its own."""


def free_port() -> int:
    """Return a port of this machine at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(line: str, cwd: Path, port: int | None = None) -> Iterator[Server]:
    """Run a printed `mlflow ui` line while the body runs."""
    port = port or free_port()
    command = [str(BIN / "mlflow"), *line.split()[1:], "--port", str(port), "--workers", "1"]
    quick = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # jobs of others than us
    with (cwd / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=cwd, env=quick, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 180  # a loaded machine takes its time to import a server
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, (
                    cwd / "server.log"
                ).read_text()
                time.sleep(0.2)
        yield Server(address, server)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
