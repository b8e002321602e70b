"""The Snakefile's support code, as far as it can be tested without running Snakemake."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import small
from small import ROOT

from metabench.workflow.snakefile import Workflow

CONTENT = small.tiny(cells=[small.short_fomaml(20, [0.01, 0.02]), small.RANDOM])


def workflow(root, *forced):
    """The workflow of a study as it is when Snakemake asks, with what `--forcerun` names."""
    snakemake = SimpleNamespace(dag_settings=SimpleNamespace(forcerun=set(forced)))
    found = Workflow(small.running(CONTENT, root), snakemake)
    found.store = "store-1"
    return found


def test_what_failed_jobs_said_is_repeated_once_with_how_many_said_it(tmp_path, capsys):
    found = workflow(tmp_path)
    found.explain()
    assert not capsys.readouterr().err, "nothing was started"
    found.started = 1000.0
    messages = {"a": "metabench: no disk", "b": "metabench: no disk", "c": "metabench: no torch"}
    for name, line in (messages | {"old": "metabench: long ago"}).items():
        path = tmp_path / "logs" / "train" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"engine: fused\n{line}\n")
    os.utime(path, (0, 0))
    found.explain()
    first, second, last = capsys.readouterr().err.splitlines()
    assert (first, second) == ("metabench: no disk (2 jobs)", "metabench: no torch")
    assert last.startswith("metabench: some jobs failed; finished work is kept")


def test_an_interruption_is_told_once_and_a_failure_before_it_is_not_lost(tmp_path, capsys):
    found = workflow(tmp_path)
    found.started = 1000.0
    interrupted = "metabench: interrupted; the same command resumes"
    messages = {"a": f"{interrupted}, from its checkpoint if it trains", "b": "metabench: no disk"}
    for name, line in messages.items():
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / "logs" / f"{name}.log").write_text(f"{line}\n")
    found.explain()
    assert capsys.readouterr().err.splitlines() == ["metabench: no disk", interrupted]


BEFORE = """
from pathlib import Path
from types import SimpleNamespace
from metabench.workflow import commands
folder = SimpleNamespace(get_path_or_uri=lambda secret_free: Path.cwd())
commands.set_up(SimpleNamespace(current_basedir=folder))
raise {}
"""


def test_an_interruption_before_any_job_is_one_line_and_an_error_is_not_hidden():
    ends = {}
    for error in ("KeyboardInterrupt", "RuntimeError"):
        line = [sys.executable, "-c", BEFORE.format(error)]
        ends[error] = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    interrupted = ends["KeyboardInterrupt"]
    assert interrupted.stderr == "metabench: interrupted; the same command resumes\n"
    assert interrupted.returncode == -signal.SIGINT
    assert ends["RuntimeError"].stderr.startswith("Traceback")


@pytest.mark.parametrize(
    ("jobs", "cores", "text"),
    [
        (("evaluate", "tables"), 2, "1 of 6 evaluations, 1 other job, about 1 min on 2"),
        (("tables", "figures", "report"), 2, "0 of 6 evaluations, 3 other jobs, about"),
        (("tables", "figures", "report"), 2, "about 1 min on 2 cores"),
        (("report",), 8, "1 other job, about 1 min on 1 core"),
    ],
)
def test_a_study_begins_with_what_remains_of_it_and_the_cores_that_it_uses(
    tmp_path, jobs, cores, text
):
    found = workflow(tmp_path)
    first = {artefact.job: str(artefact.path) for artefact in found.artefacts}
    needed = [SimpleNamespace(output=[first[job], "another file"]) for job in jobs]
    needed.append(SimpleNamespace(output=[]))  # of the rule that only requests the others
    found.snakemake.dag = SimpleNamespace(needrun_jobs=lambda: needed)
    found.snakemake.local_exec, found.snakemake.cores = True, cores
    assert "0 of 3 training jobs, " in found.summary(0.0) and text in found.summary(0.0)


FORCED = {
    "train": {"train", "evaluate", "tables", "figures", "report", "track_cells", "track_study"},
    "evaluate": {"evaluate", "tables", "figures", "report", "track_cells", "track_study"},
    "baselines": {"baselines", "tables", "figures", "report", "track_cells", "track_study"},
    "tables": {"tables", "figures", "report", "track_study"},
    "figures": {"figures", "track_study"},
    "report": {"report", "track_study"},
    "track_cells_0": {"track_cells", "track_study"},
    "track_study": {"track_study"},
    "all": set(),
}


@pytest.mark.parametrize("rule", FORCED)
def test_forcing_a_rule_forces_what_is_made_of_its_files_and_nothing_else(tmp_path, rule):
    found = workflow(tmp_path, rule)
    assert {a.job for a in found.artefacts if a.path in found.forced} == FORCED[rule]


def test_a_rule_of_a_module_is_forced_by_its_name_in_the_workflow(tmp_path):
    for rule in ("mb_baselines", "mb_track_cells_0"):
        found = workflow(tmp_path, rule)
        found.rule_name = "mb_{}".format
        expected = FORCED[rule.removeprefix("mb_")]
        assert {a.job for a in found.artefacts if a.path in found.forced} == expected


def test_forcing_a_file_forces_what_is_made_of_it_alone(tmp_path):
    record = next(a.path for a in workflow(tmp_path).artefacts if a.job == "train")
    forced = workflow(tmp_path, str(record)).forced
    assert record in forced
    trained = {a.path for a in workflow(tmp_path).artefacts if a.job == "train"}
    assert forced & trained == {record}
    assert len({path for path in forced if "evaluate" in path.parts}) == 2
    table = tmp_path / "tables" / "runs.csv"
    assert tmp_path / "tables" / "manifest.json" in workflow(tmp_path, str(table)).forced


def names(cell, runs):
    """The wildcards of a job."""
    algorithm, path = cell.path.split("/")
    return SimpleNamespace(algorithm=algorithm, cell=path, group="standard", seeds=f"0-{runs - 1}")


def test_each_attempt_requests_as_much_memory_and_time_again(tmp_path):
    found = workflow(tmp_path)
    wildcards = names(found.running.study.cells[0], 2)
    for request in (
        *(found.train_memory, found.evaluate_memory, found.tables_memory),
        *(found.train_minutes, found.evaluate_minutes, found.tables_minutes),
    ):
        assert request(wildcards, 3) == 3 * request(wildcards, 1)
    assert [found.each_attempt(2000)(wildcards, attempt) for attempt in (1, 2)] == [2000, 4000]


def test_the_time_limit_of_a_job_grows_with_its_expected_time(tmp_path):
    content = small.tiny(cells=[small.short_fomaml(100_000, 0.01)], evaluation={"tasks": 1000})
    found = Workflow(small.running(content, tmp_path), None)
    few, many = (names(found.running.study.cells[0], runs) for runs in (1, 1000))
    for limit in (found.train_minutes, found.evaluate_minutes):
        assert 10 <= limit(few, 1) < limit(many, 1)
