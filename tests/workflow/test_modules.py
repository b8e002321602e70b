"""metabench as a module of another workflow: real runs of one that reads its leaderboard."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
import small
import yaml
from pipeline import BIN, environment
from small import ROOT
from snakemake.path_modifier import PathModifier

from metabench import jobs
from metabench.records import manifests
from metabench.workflow import modules

WORKFLOW = """
configfile: "config.yaml"

rule all:
    input: "summary.txt"

module metabench:
    snakefile: "{root}/Snakefile"
    config: config["benchmark"]
    {prefix}

use rule * from metabench as mb_*

use rule tables from metabench as mb_tables with:
    priority: 5

rule summarise:
    input: "{folder}results/tiny/tables/leaderboard.csv"
    output: "summary.txt"
    shell: "head -n 2 {{input}} > {{output}}"

onstart:
    print("the workflow has started")
"""


def workflow(folder: Path, prefix: str) -> Path:
    """Write a workflow with metabench as a module, with our profile, into a folder."""
    line, place = (f'prefix: "{prefix}"', f"{prefix}/") if prefix else ("", "")
    text = WORKFLOW.format(root=ROOT, prefix=line, folder=place)
    (folder / "Snakefile").write_text(text)
    (folder / "config.yaml").write_text(yaml.safe_dump({"benchmark": content()}, sort_keys=False))
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    return folder


def content() -> dict[str, object]:
    """Return the content of a study that takes seconds."""
    return small.tiny(
        cells=[small.short_fomaml(20, 0.01), small.RANDOM],
        protocols={"robustness": small.content()["protocols"]["robustness"]},
    )


def start(folder: Path, *targets: str) -> subprocess.Popen[str]:
    """Start the workflow as a person does, in a process group of its own."""
    command = [BIN / "snakemake", "--cores", "1", *targets]
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment(), start_new_session=True, **out)


def output(process: subprocess.Popen[str]) -> str:
    """Wait until a workflow has succeeded; return what it printed."""
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed


def kill_after_the_first_record(process: subprocess.Popen[str], root: Path) -> None:
    """Kill a workflow and all its processes once it has trained something."""
    while not list(root.glob("train/**/[!.]*.safetensors")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def digests(tables: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in tables.iterdir()}


@pytest.mark.workflow
@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "benchmarks/sine"])
def test_another_workflow_reads_a_table_that_is_that_of_the_study_alone_even_after_a_kill(
    tmp_path: Path, prefix: str
) -> None:
    folder = workflow(tmp_path, prefix)
    root = folder / prefix / "results" / "tiny"
    kill_after_the_first_record(start(folder), root)
    assert not (folder / "summary.txt").exists()

    printed = output(start(folder))
    assert "the workflow has started" in printed, "its own hook is called as well"
    leaderboard = (root / "tables" / "leaderboard.csv").read_text()
    assert (folder / "summary.txt").read_text() == "".join(leaderboard.splitlines(True)[:2])
    left = {path.name for path in folder.iterdir()} - {".snakemake", "profiles"}
    results = Path(prefix, "results").parts[0]
    assert left == {"Snakefile", "config.yaml", "summary.txt", results}
    assert list(folder.rglob("tiny")) == [root]

    alone = small.running(content(), tmp_path / "alone" / "tiny")
    small.compute(alone)
    assert digests(jobs.tables(alone)) == digests(root / "tables")
    assert "Nothing to be done" in output(start(folder))


@pytest.mark.workflow
@pytest.mark.slow
def test_figures_report_and_tracking_are_below_the_prefix_as_well(tmp_path: Path) -> None:
    folder = workflow(tmp_path, "benchmarks/sine")
    output(start(folder, "mb_all"))
    root = folder / "benchmarks" / "sine" / "results" / "tiny"
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
        "Snakefile",
        "benchmarks",
        "config.yaml",
        "profiles",
    ]
    assert manifests.read(root / "figures")["files"]
    assert (root / "report.html").stat().st_size > 100_000
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        names = {name for (name,) in store.execute("SELECT name FROM runs")}
    assert len(names) == 1 + 2 * content()["seeds"], "the study, and two cells with each seed"
    assert "Nothing to be done" in output(start(folder, "mb_all"))


@pytest.mark.parametrize(
    ("replaced", "prefix", "expected"),
    [
        (None, None, "results"),
        (None, "a/b", "a/b/results"),
        (None, "a/", "a/results"),
        ({"results/": "other/"}, None, "other"),
        ({"data/": "other/"}, None, "results"),
    ],
)
def test_the_results_are_below_the_prefix_which_snakemake_adds_no_more(
    replaced: dict[str, str] | None, prefix: str | None, expected: str
) -> None:
    modifier = SimpleNamespace(path_modifier=PathModifier(replaced, prefix, None))
    found = modules.results(SimpleNamespace(modifier=modifier))
    assert found == Path(expected)
    assert modifier.path_modifier.replace_prefix(f"{found}/tiny") == f"{found}/tiny"


def test_the_hooks_of_a_module_are_called_before_those_of_the_workflow() -> None:
    called: list[str] = []
    snakemake = SimpleNamespace(_onstart=called.append, _onerror=called.append)
    modules.add_hooks(snakemake, lambda: called.append("begin"), lambda: called.append("explain"))
    snakemake._onstart("start")
    snakemake._onerror("error")
    assert called == ["begin", "start", "explain", "error"]
