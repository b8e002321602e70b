"""The smoke study as one machine computes it, with which all runs on clusters are compared."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm
from pipeline import copy, snakemake
from required import without


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished local run."""
    folder = copy(tmp_path_factory.mktemp("local"))
    answer = snakemake(folder, "--cores", "1")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    """A SLURM cluster of two nodes."""
    if reason := slurm.missing():
        without(reason)
    with slurm.running(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture
def accounting_cluster(tmp_path: Path) -> Iterator[slurm.Cluster]:
    """A SLURM cluster of two nodes with an accounting database."""
    if reason := slurm.missing(database=True):
        without(reason)
    folder = tmp_path / "slurm"
    folder.mkdir()
    with slurm.running(folder, database=True) as found:
        yield found
