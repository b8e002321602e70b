"""MLflow's own user interface, opened at a study's runs.

By default MLflow shows its page for language models; the address here is that of the table of runs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple
from urllib.parse import urlencode

from metabench.records.artifacts import ArtifactError
from metabench.views.tracking import processes, rest, store, view
from metabench.views.tracking.processes import HOST
from metabench.views.tracking.rest import StoreError


def page(server: str, experiment: str) -> str:
    """Return the address of an experiment's runs.

    Example:
        >>> page("http://host:5000", "1")
        'http://host:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=scores'
    """
    query = urlencode({"workflowType": "machine_learning", "viewStateShareKey": view.KEY})
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?{query}"


def experiment(root: Path, study: str) -> str:
    """Return the number of a study's experiment; raise ArtifactError if it is not tracked."""
    uri = store.uri_of(root)
    try:
        found = store.experiment(uri, study)
    except StoreError as error:
        raise ArtifactError(f"{rest.hidden(uri)} cannot be read: {error}") from None
    if found is None:
        raise ArtifactError(f"the study {study} is not in {rest.hidden(uri)}; run it first")
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
    if rest.is_server(uri):
        yield Server(rest.hidden(uri), None)
        return
    processes.require_free(port)
    address = f"http://{HOST}:{port}"
    command = processes.mlflow(port, "--workers", "1", "--backend-store-uri", store.absolute(uri))
    ready = partial(processes.answers, address)
    with TemporaryFile() as log, processes.serving("MLflow", command, log, ready, {}) as process:
        yield Server(address, process)
