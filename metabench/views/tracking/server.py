"""MLflow for several users on this machine: PostgreSQL, user names, and artifacts in one folder.

    FOLDER/postgres         the database: runs, users and their permissions
    FOLDER/artifacts        the files of runs, which only MLflow's server reads and writes
    FOLDER/auth.ini         MLflow's settings of permissions
    FOLDER/admin-password   the first password of the user `admin`
    FOLDER/secret-key       what MLflow signs its forms with
    FOLDER/*.log            what the two servers print

PostgreSQL listens only on a socket in its own folder, which other users cannot enter. So it needs
no password, and none is on a command line.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from metabench.records import locks
from metabench.records.artifacts import ArtifactError
from metabench.views.tracking import processes
from metabench.views.tracking.processes import HOST

DATABASE = "postgresql:///postgres"
"""The database that `initdb` creates, at the place that the variables PGHOST and PGUSER name."""

INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian installs each version of PostgreSQL."""

CONNECTIONS = 50
"""Connections for each process of MLflow, which opens up to fifteen for runs, models and users."""

AUTH = f"""\
[mlflow]
# Every user reads all experiments; who creates one may change it and give others permissions.
default_permission = READ
database_uri = {DATABASE}
admin_username = admin
# Checking a password takes longer than all else in a request.
auth_cache_ttl_seconds = 60
"""


class Shared(NamedTuple):
    """A running server.

    Args:
        address: Its address.
        processes: The processes of MLflow and PostgreSQL by their names.
    """

    address: str
    processes: dict[str, subprocess.Popen[bytes]]


@contextmanager
def running(folder: Path, port: int, workers: int) -> Iterator[Shared]:
    """Run the server while the body runs.

    Args:
        folder: Where everything is kept; it is created if necessary.
        port: Port of MLflow, on this machine only.
        workers: Processes of MLflow that answer requests.

    Raises:
        ArtifactError: Something is missing or in use, or a server does not start.
    """
    _require_packages()
    processes.require_free(port)
    folder = folder.absolute()
    with (
        _alone(folder),
        _database(folder, CONNECTIONS * workers) as database,
        _mlflow(folder, port, workers) as mlflow,
    ):
        yield Shared(f"http://{HOST}:{port}", {"MLflow": mlflow, "PostgreSQL": database})


def _require_packages() -> None:
    missing = [name for name in ("psycopg2", "flask_wtf") if find_spec(name) is None]
    if missing:
        raise ArtifactError(f"{' and '.join(missing)} not found; run `make setup-server`")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; raise ArtifactError if another process serves it."""
    lock = locks.take(folder / ".lock")
    if lock is None:
        holder = locks.holder(folder / ".lock")
        raise ArtifactError(f"process {holder} already serves {folder}")
    with lock:
        yield


@contextmanager
def _database(folder: Path, connections: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run PostgreSQL while the body runs; create its files if there are none."""
    data = folder / "postgres"
    if not data.exists():
        _create(data)
    ready = partial(_answers, data)
    if ready():
        # The process that started it was killed, as the lock proves.
        _call(data, "pg_ctl", "stop", "--mode", "fast", "--pgdata", str(data))
    command = [_program("postgres", data), "-D", str(data), "-k", str(data), "-h", ""]
    command += ["-N", str(connections)]
    with (
        (folder / "postgres.log").open("a+b") as log,
        processes.serving("PostgreSQL", command, log, ready, {}, _owner(), signal.SIGINT) as found,
    ):
        yield found


def _create(data: Path) -> None:
    """Create PostgreSQL's files under a temporary name, because it cannot continue partial ones."""
    temporary = data.with_suffix(".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    if owner := _owner():
        shutil.chown(temporary, owner, owner)
    settings = ["--no-locale", "--encoding", "UTF8", "--username", "mlflow"]
    access = ["--auth-local", "trust", "--auth-host", "reject"]
    _call(data, "initdb", "--pgdata", str(temporary), *settings, *access)
    temporary.rename(data)


def _call(data: Path, name: str, *arguments: str) -> None:
    """Call a program of PostgreSQL; raise ArtifactError if it fails."""
    owner = _owner()
    answer = subprocess.run(
        [_program(name, data), *arguments],
        cwd=data.parent,
        user=owner,
        group=owner,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise ArtifactError(f"{name} fails: {' '.join(answer.stderr.split())[-300:]}")


def _answers(data: Path) -> bool:
    """Return whether PostgreSQL answers."""
    place = ["--host", str(data), "--username", "mlflow", "--dbname", "postgres"]
    command = [_program("pg_isready", data), "--quiet", *place]
    return subprocess.run(command, check=False).returncode == 0


def _owner() -> str | None:
    """Return who runs PostgreSQL, if not this process's user: it refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else None


def _program(name: str, data: Path) -> str:
    """Return a program of PostgreSQL, of the version that created the files.

    Debian installs several versions side by side, and none of them on the path.

    Raises:
        ArtifactError: It is not here.
    """
    created = data / "PG_VERSION"
    version = created.read_text(encoding="utf-8").strip() if created.exists() else "*"
    folders = INSTALLED.glob(f"{version}/bin")
    newest_first = sorted(folders, key=lambda path: float(path.parent.name), reverse=True)
    path = os.pathsep.join([*map(str, newest_first), *os.get_exec_path()])
    found = shutil.which(name, path=path)
    if found is None:
        package = "postgresql" if version == "*" else f"postgresql-{version}"
        raise ArtifactError(f"{name} not found; install PostgreSQL (Debian: apt install {package})")
    return found


@contextmanager
def _mlflow(folder: Path, port: int, workers: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server while the body runs."""
    artifacts = folder / "artifacts"
    artifacts.mkdir(mode=0o700, exist_ok=True)
    variables = {
        "PGHOST": str(folder / "postgres"),
        "PGUSER": "mlflow",
        "MLFLOW_AUTH_CONFIG_PATH": str(_kept(folder / "auth.ini", AUTH)),
        "MLFLOW_AUTH_ADMIN_PASSWORD": _secret(folder / "admin-password"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": _secret(folder / "secret-key"),
        "MLFLOW_LOGGING_LEVEL": "INFO",
    }
    options = ["--app-name", "basic-auth", "--backend-store-uri", DATABASE]
    options += ["--artifacts-destination", str(artifacts), "--workers", str(workers)]
    options += ["--uvicorn-opts", "--no-access-log"]
    ready = partial(processes.answers, f"http://{HOST}:{port}")
    with (
        (folder / "mlflow.log").open("a+b") as log,
        processes.serving("MLflow", processes.mlflow(port, *options), log, ready, variables) as it,
    ):
        yield it


def _secret(path: Path) -> str:
    """Return a password, which is chosen at the first start."""
    return _kept(path, f"{secrets.token_urlsafe(16)}\n").read_text(encoding="utf-8").strip()


def _kept(path: Path, content: str) -> Path:
    """Write a file that only this user can read, unless it exists; return its path."""
    if not path.exists():
        temporary = path.with_suffix(".partial")
        temporary.touch(mode=0o600)
        temporary.write_text(content, encoding="utf-8")
        temporary.rename(path)
    return path
