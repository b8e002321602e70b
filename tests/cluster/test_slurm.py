"""The smoke study on a real SLURM cluster, with `snakemake --profile profiles/slurm`."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from pipeline import BIN, copy, environment
from slurm import Cluster
from soak import same

MINUTES = 60.0
LONGEST = 30 * MINUTES
"""Seconds after which a run counts as hung."""


class Job(NamedTuple):
    """A job as SLURM lists it."""

    rule: str
    state: str
    megabytes: int
    node: str


def start(folder: Path, cluster: Cluster) -> subprocess.Popen[bytes]:
    """Start the smoke study on a cluster."""
    line = [str(BIN / "snakemake"), "--profile", "profiles/slurm"]
    line += ["--slurm-init-seconds-before-status-checks", "5"]  # instead of a minute
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [*line, "--configfile", "config/smoke.yaml"],
            cwd=folder,
            env=environment() | cluster.variables,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def finish(process: subprocess.Popen[bytes], folder: Path) -> str:
    """Wait for a run and return what it printed."""
    code = process.wait(LONGEST)
    printed = (folder / "log").read_text(encoding="utf-8")
    assert code == 0, printed
    return printed


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait until something is true of a running study."""
    deadline = time.monotonic() + LONGEST
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)


def listed(cluster: Cluster, folder: Path) -> list[Job]:
    """Return all jobs of a folder; their comment is the rule with its wildcards."""
    lines = cluster.ask("squeue", "--states=all", "--noheader", "--format=%k|%T|%m|%N|%Z")
    rows = [line.split("|") for line in lines.splitlines()]
    return [
        Job(rule, state, int(memory.rstrip("M")), node)
        for rule, state, memory, node, where in rows
        if where == str(folder)
    ]


def done(jobs: list[Job]) -> list[Job]:
    """Return the completed jobs."""
    return [job for job in jobs if job.state == "COMPLETED"]


def on_n2(jobs: list[Job]) -> int:
    """Return how many jobs were started on the second node."""
    return sum(job.node == "n2" for job in jobs)


def commands(folder: Path, name: str) -> list[psutil.Process]:
    """Return the running `metabench` commands of a folder's jobs by their name."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == str(folder) and str(BIN / "metabench") in words[:2]:
            found += [process] if name in words else []
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the workflow."""
    return copy(tmp_path / "study")


def test_a_killed_job_is_retried_with_more_memory_and_a_drained_node_gets_no_jobs(
    cluster: Cluster, local: Path, folder: Path
) -> None:
    process = start(folder, cluster)
    wait_for(lambda: commands(folder, "train"), process)
    commands(folder, "train")[0].kill()
    cluster.ask("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
    try:
        wait_for(lambda: "drained" in cluster.ask("sinfo", "--noheader", "--format=%T"), process)
        before = listed(cluster, folder)
        wait_for(lambda: len(done(listed(cluster, folder))) > len(done(before)) + 2, process)
        assert on_n2(listed(cluster, folder)) == on_n2(before) > 0
    finally:
        cluster.ask("scontrol", "update", "NodeName=n2", "State=RESUME")
    assert "Trying to restart" in finish(process, folder)
    after = listed(cluster, folder)
    (failed,) = (job for job in after if job.state == "FAILED")
    (retried,) = (job for job in done(after) if job.rule == failed.rule)
    assert retried.megabytes == 2 * failed.megabytes
    same(folder, local)


def test_a_killed_workflow_needs_no_unlock_and_its_jobs_finish(
    cluster: Cluster, local: Path, folder: Path
) -> None:
    process = start(folder, cluster)
    wait_for(lambda: list(folder.glob("results/smoke/train/*/*/[!.]*.safetensors")), process)
    process.kill()  # the jobs that it submitted stay in the queue
    process.wait()
    printed = finish(start(folder, cluster), folder)
    assert not re.search("LockException|incomplete", printed)
    same(folder, local)


def test_with_an_accounting_database_it_is_asked_where_slurm_soon_forgets_finished_jobs(
    accounting_cluster: Cluster, local: Path, folder: Path
) -> None:
    finish(start(folder, accounting_cluster), folder)
    (log,) = folder.glob(".snakemake/log/*.log")
    assert "Falling back to 'sacct' for status queries (MinJobAge=10" in log.read_text()
    ended = ("sacct", "--starttime=now-1days", "--noheader", "--allocations", "--format=State")
    states = accounting_cluster.ask(*ended).split()
    assert len(states) > 1 and set(states) == {"COMPLETED"}
    same(folder, local)
