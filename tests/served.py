"""A shared MLflow server on this machine, as `make server` runs it, its users, their studies."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
import small
from click.testing import CliRunner
from mlflow import MlflowClient
from pipeline import BIN, environment

from metabench.cli import main
from metabench.records.artifacts import ArtifactError
from metabench.records.running import Running
from metabench.views.tracking import server, store
from metabench.workflow.artefacts import batches


class Server(NamedTuple):
    """A running server.

    Args:
        folder: Its database, artifacts and logs.
        port: Where it listens.
        process: Its command, which leads a session of its own.
    """

    folder: Path
    port: int
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


class User(NamedTuple):
    """A user of a server.

    Args:
        name: User name.
        password: Password.
        address: Address of the server.
    """

    name: str
    password: str
    address: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables by which a study is tracked as this user."""
        return {
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_TRACKING_USERNAME": self.name,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }

    def posts(self, place: str, content: dict[str, str]) -> None:
        """Send a request to MLflow as this user."""
        place = f"{self.address}/api/{place}"
        requests.post(place, json=content, auth=(self.name, self.password)).raise_for_status()

    @contextmanager
    def acting(self) -> Iterator[MlflowClient]:
        """Be this user in this process while the body runs."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables.items():
                patch.setenv(name, value)
            yield MlflowClient(self.address)


def missing() -> str:
    """Return why no server can be started here; empty if one can."""
    absent = [name for name in ("psycopg2", "flask_wtf") if find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} not found: run `make setup-server`"
    try:
        server._program("initdb", Path("none"))
    except ArtifactError as error:
        return str(error)
    return ""


@contextmanager
def data_folder() -> Iterator[Path]:
    """Yield a folder for a server's data while the body runs.

    As root, PostgreSQL runs as another user, who cannot enter pytest's own folders.
    """
    folder = Path(tempfile.mkdtemp(prefix="served-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def running(folder: Path, port: int) -> Iterator[Server]:
    """Run the command of `make server` while the body runs."""
    command = [str(BIN / "metabench"), "server", "--data", str(folder), "--port", str(port)]
    # Leaving the process closes its pipes: an unclosed file fails the test that runs by then.
    with subprocess.Popen(
        command,
        cwd=folder.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            first = process.stdout.readline()
            assert first == f"MLflow: http://127.0.0.1:{port}\n", process.stderr.read()
            yield Server(folder, port, process)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)


def add_user(found: Server, name: str) -> User:
    """Let the admin add a user, as in MLflow's pages."""
    password = (found.folder / "admin-password").read_text().strip()
    user = User(name, f"{name}-has-@-secret/{os.getpid()}", found.address)
    admin = User("admin", password, found.address)
    admin.posts("2.0/mlflow/users/create", {"username": user.name, "password": user.password})
    return user


def metabench(folder: Path, user: User, *arguments: str) -> subprocess.Popen[str]:
    """Start a metabench command in a folder as a user of a server."""
    return subprocess.Popen(
        [sys.executable, "-m", "metabench", *arguments],
        cwd=folder,
        env=environment() | user.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Study(NamedTuple):
    """A finished study.

    Args:
        folder: Where its commands are called.
        content: Content of its file.
    """

    folder: Path
    content: dict[str, Any]

    @property
    def running(self) -> Running:
        """The study as it is run."""
        return small.running(self.content, self.folder / "results" / self.content["study"])

    @property
    def keys(self) -> set[tuple[str, int]]:
        """Cell and seed of each run."""
        study = self.running.study
        return {(cell.name, seed) for cell in study.cells for seed in range(study.config.seeds)}

    def tracked_by(self, user: User) -> list[str]:
        """Track the study as a user; return what each command printed."""
        name = self.store_of(user)
        printed = []
        for batch in batches(self.running):
            printed.append(self.ended(user, "cells", "--batch", batch, "--store", name))
        return [*printed, self.ended(user, "study", "--store", name)]

    def store_of(self, user: User) -> str:
        """Return the name of the store, as Snakemake determines it at each start."""
        with user.acting():
            return store.store_name(self.running.layout.root, self.content["study"])

    def ended(self, user: User, *arguments: str) -> str:
        """Run a track command here; return what it printed, and its code if it is not 0."""
        what, *others = arguments
        command = ["track", what, "--study", str(self.running.layout.study), *others]
        with user.acting():
            answer = CliRunner().invoke(main, command, catch_exceptions=False)
        return f"{answer.output}exit code {answer.exit_code}" if answer.exit_code else answer.output


def finished(folder: Path, name: str, cells: int, seeds: int) -> Study:
    """Compute a study of FOMAML with many outer step sizes, in blocks of ten seeds."""
    steps = [0.01, *(round(0.01 + n / 1000, 3) for n in range(1, cells))]
    validated = {"tasks": 4, "interval": 1}
    content = small.tiny(
        study=name,
        seeds=seeds,
        seed_block=10,
        cells=[small.short_fomaml(30, steps)],
        validation=validated,
    )
    study = Study(folder, content)
    small.finish(study.running)
    return study
