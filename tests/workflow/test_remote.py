"""The Snakefile in a job on another machine, as far as it is testable without Snakemake."""

import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from small import ROOT

from metabench.records.layout import Layout
from metabench.workflow.remote import RemoteJob
from metabench.workflow.snakefile import Workflow

RULES = [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]


def remote_job(root, latency_wait):
    """A remote job of a study in a folder."""
    settings = SimpleNamespace(latency_wait=latency_wait)
    return RemoteJob(Layout(root), SimpleNamespace(execution_settings=settings))


def test_it_imports_nothing_that_takes_long():
    code = "import metabench.workflow.remote, sys; print(*sys.modules)"
    line = [sys.executable, "-c", code]
    imported = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pandas", "matplotlib", "sqlalchemy", "pydantic"} & set(imported)


def test_the_rules_read_nothing_else_of_a_study_than_it_has():
    local = [
        "begin",
        "end",
        "explain",
        "records_of",
        "markers_of",
    ]  # of hooks and local rules alone
    read = {name for path in RULES for name in re.findall(r"\bstudy\.(\w+)", path.read_text())}
    assert read - {"store"} <= set(dir(Workflow)) | set(Workflow.__dataclass_fields__)
    assert read - set(local) <= set(dir(RemoteJob)) | set(RemoteJob.__dataclass_fields__)


def test_it_waits_for_a_study_that_is_seen_late_and_no_longer_than_the_latency_wait(
    tmp_path, monkeypatch
):
    job, slept = remote_job(tmp_path, 60), []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            (tmp_path / "study.json").write_text("{}")

    monkeypatch.setattr(time, "sleep", sleep)
    assert job.inputs()(None) == [] and len(slept) == 3
    assert job.inputs()(None) == [] and len(slept) == 3
    assert remote_job(tmp_path / "none", 0).inputs()(None) == [] and len(slept) == 3


@pytest.mark.parametrize(
    "name", ["train_memory", "evaluate_memory", "train_minutes", "tables_memory", "tables_minutes"]
)
def test_it_requests_no_resources(name, tmp_path):
    assert getattr(remote_job(tmp_path, 0), name)(None) == 0
