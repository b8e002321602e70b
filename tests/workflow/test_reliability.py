"""The faults of docs/reliability.md, each caused in a running command, Snakemake or store."""

import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import permissions
import pytest
import small
import yaml
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Run
from pipeline import BIN, copy, environment, free_port, serving

from metabench.analysis import frames, tables
from metabench.cli import main
from metabench.learning import engine, training
from metabench.records import artifacts, headers, locks, states
from metabench.records.layout import Layout
from metabench.study.jobs import Study, TrainJob
from metabench.views.tracking import runs, store
from metabench.workflow import artefacts

LENGTH = 50_000
"""Meta-iterations of the training that is disturbed: seconds, of which a checkpoint is a part."""

CONTENT = small.tiny(
    cells=[small.short_fomaml(LENGTH, 0.01), small.RANDOM],
    validation={"tasks": 4, "interval": 1000},
)
STUDY = small.study(CONTENT)
JOB, OTHER = STUDY.train_jobs
TINY = Path("results/tiny")
PATHS = Layout(TINY)
CONFIG = Path("config/tiny.yaml")
TRAINED = PATHS.trained(JOB.cell.path, JOB.seeds)
EVALUATED = PATHS.evaluated(JOB.cell.path, "standard", JOB.seeds)
BASELINES = PATHS.baselines("standard")
CHECKPOINT = PATHS.checkpoint(JOB.cell.path, JOB.seeds)
MARK = "metabench: "
LAID_OUT = Path("store.db")
"""A store of MLflow in which nothing is."""
SERVE = f"mlflow ui --backend-store-uri sqlite:///{LAID_OUT}"


def file_of(content: dict[str, Any]) -> Path:
    """Write a changed study of the same name beside the study's own file."""
    path = Path("config/changed.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def of(job: TrainJob, study: Path) -> list[object]:
    """Return the part of a command line that names a job of a study."""
    cell = f"{job.cell.algorithm}/{job.cell.name}"
    return ["--study", study, "--cell", cell, "--seeds", job.seeds]


def train(job: TrainJob = JOB, study: Path = CONFIG) -> list[object]:
    return ["train", *of(job, study)]


def evaluate(job: TrainJob = JOB, study: Path = CONFIG, group: str = "standard") -> list[object]:
    return ["evaluate", *of(job, study), "--group", group]


def baselines() -> list[object]:
    return ["baselines", "--study", CONFIG, "--group", "standard"]


def tabulate(study: Path = CONFIG) -> list[object]:
    return ["tables", "--study", study]


def draw() -> list[object]:
    return ["figures", "--tables", TINY / "tables", "--out", TINY / "figures"]


def track(job: TrainJob = JOB) -> list[object]:
    (batch,) = [
        name
        for name, jobs in artefacts.batches(small.running(CONTENT, TINY)).items()
        if job in jobs
    ]
    name = store.store_name(TINY, "tiny")
    return ["track", "cells", "--study", CONFIG, "--batch", batch, "--store", name]


def only_fomaml(**changes: Any) -> tuple[dict[str, Any], TrainJob]:
    """Return a study of one cell of FOMAML with some hyperparameters replaced, and its job."""
    content = CONTENT | {"cells": [CONTENT["cells"][0] | changes]}
    (job,) = small.study(content).train_jobs
    return content, job


def half_trained(study: Study, job: TrainJob) -> artifacts.Arrays:
    """Return the state of a training job after 1000 meta-iterations."""
    settings = small.changed(study.train_settings(job.cell), meta_iterations=1000)
    return states.from_state(training.train(settings, (0, 1), job.cell.value))


def header(study: Study, job: TrainJob) -> artifacts.Header:
    return headers.training(study.train_settings(job.cell), job.seeds, engine.name())


def run(arguments: list[object]) -> str:
    """Run a command here, and return what it says besides its result."""
    answer = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.stderr


def refused(arguments: list[object]) -> str:
    """Run a command here that must refuse, and return the line that says why."""
    answer = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    return only_line(answer.exit_code, answer.stderr)


def only_line(code: int, err: str, expected: int = 2) -> str:
    """Return the one line of ours, with which a command must end."""
    assert code == expected and "Traceback" not in err, err
    (line,) = [line for line in err.splitlines() if line.startswith(MARK)]
    assert err.splitlines()[-1] == line, err
    return line


def started(
    command: list[object], missing: Path | None = None, **options: Any
) -> subprocess.Popen[str]:
    """Start a program in a process group of its own; where it is given, a folder of `without` hides
    a package.
    """
    variables = environment() | options.pop("variables", {})
    if missing:
        variables["PYTHONPATH"] = os.pathsep.join([str(missing), variables.get("PYTHONPATH", "")])
    words = [str(BIN / str(command[0])), *map(str, command[1:])]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        words, env=variables, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **options
    )


def metabench(arguments: list[object], **options: Any) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return started(["metabench", *arguments], **options)


def snakemake(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start the study here."""
    return started(
        ["snakemake", "--configfile", "config/tiny.yaml", "--cores", "2", *arguments], **options
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process; return its exit code and what it wrote."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until a running process has come to where a condition holds."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "it ended before: " + "".join(ended(process)[1:])
        assert time.monotonic() < deadline
        time.sleep(0.01)


def no_file_larger_than(size: int) -> None:
    """Make writing fail beyond a size, as it does on a disk that fills."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


WITHOUT = """
import importlib.metadata as metadata, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

def from_name(cls, name, found=metadata.Distribution.from_name.__func__):
    if name == {package!r}:
        raise metadata.PackageNotFoundError(name)
    return found(cls, name)

metadata.Distribution.from_name = classmethod(from_name)
sys.meta_path.insert(0, Missing())
"""


def without(package: str, folder: Path) -> Path:
    """Return a folder for PYTHONPATH that makes a package look as if it were not installed."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WITHOUT.format(package=package))
    return folder


def contents_of(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the workflow, and with the records and tables of a study that nothing
    disturbed.
    """
    folder = copy(tmp_path_factory.mktemp("finished"))
    (folder / "config" / "tiny.yaml").write_text(yaml.safe_dump(CONTENT))
    small.compute(small.running(CONTENT, folder / TINY))
    shutil.rmtree(folder / TINY / "checkpoints")  # a lost record would be there again at once
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(tabulate())
        MlflowClient(f"sqlite:///{LAID_OUT.absolute()}")  # hundreds of small writes, once
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which the test stands, with no store named in the environment."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "copy"))
    return tmp_path / "copy"


def damage(path: Path, how: str) -> None:
    """Spoil a record or a checkpoint."""
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    elif how == "flipped":
        whole = bytearray(path.read_bytes())
        whole[-9] ^= 1
        path.write_bytes(whole)
    else:
        arrays, header = artifacts.read(path)
        if how == "foreign":
            changed = {**header["settings"], "algorithm": "another"}
            header |= {"settings": changed, "config": "another"}
        else:  # of another shape, under a valid digest
            arrays = {name: array[..., :-1] for name, array in arrays.items()}
        artifacts.write(path, arrays, header)


DAMAGES = ("truncated", "flipped", "foreign", "shape")


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_reported_and_trained_again_to_the_same_bytes(
    folder: Path, how: str
) -> None:
    content, job = only_fomaml(meta_iterations=300)
    study = file_of(content)
    run(train(job, study))
    checkpoint = PATHS.checkpoint(job.cell.path, job.seeds)
    trained = PATHS.trained(job.cell.path, job.seeds)
    whole = trained.read_bytes()
    trained.unlink()
    damage(checkpoint, how)
    shares = {a.path: a.share() for a in artefacts.artefacts(small.running(content, TINY), "x")}
    assert shares[trained] == 0
    _, first, *rest = run(train(job, study)).splitlines()  # after the engine's
    assert first.startswith(f"restarted from the beginning: {checkpoint} ")
    assert "300 of 300 (100%)" in rest[-1]
    assert trained.read_bytes() == checkpoint.read_bytes() == whole


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_record_is_refused_in_one_line_and_rebuilt_once_it_is_deleted(
    folder: Path, how: str
) -> None:
    before = contents_of(TINY)
    CHECKPOINT.parent.mkdir(parents=True)
    shutil.copy(TRAINED, CHECKPOINT)  # as training leaves it
    for path, maker in {TRAINED: train(), EVALUATED: evaluate(), BASELINES: baselines()}.items():
        damage(path, how)
        for reader in (tabulate(), evaluate()) if path == TRAINED else (tabulate(),):
            assert str(path) in refused(reader)
        path.unlink()
        run(maker)
        assert path.read_bytes() == before[path.relative_to(TINY)]
    run(tabulate())
    rebuilt = {
        Path("tables") / path: content for path, content in contents_of(TINY / "tables").items()
    }
    assert rebuilt.items() <= before.items()


def test_a_checkpoint_in_the_place_of_a_record_is_refused(folder: Path) -> None:
    artifacts.write(TRAINED, half_trained(STUDY, JOB), header(STUDY, JOB))
    err = refused(evaluate())
    assert f"{TRAINED} is a checkpoint after 1000 of {LENGTH} meta-iterations" in err
    assert f"{TRAINED} is not the record of a finished training" in refused(tabulate())


def test_a_run_that_is_not_a_number_after_its_first_step_is_counted_in_every_table(
    folder: Path,
) -> None:
    diverging = CONTENT["cells"][0] | {
        "meta_iterations": 200,
        "inner_steps": 10,
        "inner_step_size": 1e6,
        "published": None,
    }
    content = CONTENT | {"cells": [*CONTENT["cells"], diverging]}
    study = file_of(content)
    (job,) = [job for job in small.study(content).train_jobs if job.cell.role == "grid"]
    assert "2 of 2 runs diverged; they stay in every table" in run(train(job, study))
    for group in CONTENT["protocols"]:
        run(evaluate(job, study, group))
    run(tabulate(study))
    rows = frames.read(TINY / "tables", "runs.csv").set_index("cell")
    assert (rows.loc[job.cell.name, ["status", "diverged_at"]] == ["diverged", 1]).all(axis=None)
    assert (rows.loc[[JOB.cell.name, OTHER.cell.name], "status"] == "ok").all()
    board = frames.read(TINY / "tables", "leaderboard.csv").set_index("cell")
    assert (board.loc[job.cell.name, "diverged_share"] == 1).all()
    assert np.isinf(board.loc[job.cell.name, "mean"]).all()


def test_a_disk_that_fills_during_training_keeps_the_last_checkpoint_to_resume_from(
    folder: Path,
) -> None:
    whole = TRAINED.read_bytes()
    TRAINED.unlink()
    half = Path("half.safetensors")
    artifacts.write(half, half_trained(STUDY, JOB), header(STUDY, JOB))
    full = partial(no_file_larger_than, half.stat().st_size)
    code, _, err = ended(metabench(train(), preexec_fn=full))
    assert only_line(code, err).startswith(f"{MARK}cannot write {CHECKPOINT}: ")
    assert "File too large" in err
    left = {Path(CHECKPOINT.name), Path(f"{CHECKPOINT.stem}.lock")}
    assert contents_of(CHECKPOINT.parent).keys() == left
    assert CHECKPOINT.read_bytes() == half.read_bytes() and not TRAINED.exists()
    assert f"resuming from the checkpoint after 1000 of {LENGTH} meta-iterations" in run(train())
    assert TRAINED.read_bytes() == whole


def test_a_disk_that_fills_while_tables_are_written_leaves_each_old_or_new_and_none_drawn(
    folder: Path,
) -> None:
    other = file_of(CONTENT | {"statistics": {"resamples": 60}})
    old = contents_of(TINY / "tables")
    largest = (TINY / "tables" / "gallery.csv").stat().st_size
    full = partial(no_file_larger_than, largest - 1)
    code, _, err = ended(metabench(tabulate(other), preexec_fn=full))
    assert only_line(code, err).startswith(f"{MARK}cannot write {TINY}/tables/gallery.csv: ")
    mixed = contents_of(TINY / "tables")
    assert "is damaged or was changed" in refused(draw())
    run(tabulate(other))
    new = contents_of(TINY / "tables")
    assert (
        mixed.keys()
        == old.keys()
        == new.keys()
        == {Path(name) for name in (*tables.names(small.study(CONTENT).config), "manifest.json")}
    )
    for path, found in mixed.items():
        assert found in (old[path], new[path]), path
    before, after = Path("adaptation.csv"), Path("leaderboard.csv")
    assert mixed[before] != old[before] and mixed[after] == old[after] != new[after]


@pytest.mark.parametrize("laid_out", [False, True])
def test_a_disk_that_fills_while_a_store_is_written_is_one_line_and_the_next_call_completes_it(
    folder: Path, laid_out: bool
) -> None:
    database = TINY / "mlflow.db"
    if laid_out:
        shutil.copy(LAID_OUT, database)
    size = database.stat().st_size + 20_000 if laid_out else 100_000
    code, _, err = ended(metabench(track(), preexec_fn=partial(no_file_larger_than, size)))
    assert only_line(code, err).startswith(
        f"{MARK}cannot write to the MLflow store sqlite:///{database}: "
    )
    assert database.exists() == laid_out, "half of one would stay half for ever"
    assert {path.name for path in TINY.glob("*mlflow*")} == {
        "mlflow.db.lock",
        *(["mlflow.db"] if laid_out else []),
    }
    run(track())
    assert statuses(f"sqlite:///{database}") == ["FINISHED"] * 4


def statuses(uri: str) -> list[str]:
    """Return the states of the runs of the cells in a store."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny").experiment_id
    return [
        run.info.status for run in client.search_runs([experiment], "tags.`metabench.kind` = 'run'")
    ]


def test_a_store_that_another_program_holds_is_tracked_once_it_is_let_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(LAID_OUT, TINY / "mlflow.db")
    run(track(OTHER))
    monkeypatch.setattr(store, "SECONDS", 0.2)
    with closing(sqlite3.connect(TINY / "mlflow.db")) as held:
        held.execute("BEGIN EXCLUSIVE")
        assert "another program is writing to it" in refused(track())
    run(track())
    assert statuses(f"sqlite:///{TINY}/mlflow.db") == ["FINISHED"] * 4


@pytest.mark.slow
def test_a_server_that_dies_half_way_is_said_in_one_line_and_the_next_call_leaves_nothing_double(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, write = free_port(), runs.Runs._write_files
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with serving(SERVE, folder, port) as server:

        def dying(self: runs.Runs, run: Run, files: dict[str, bytes]) -> None:
            if set(statuses(server.address)) == {"FINISHED", "RUNNING"}:
                os.killpg(server.process.pid, signal.SIGKILL)
            write(self, run, files)

        monkeypatch.setattr(runs.Runs, "_write_files", dying)
        start = time.monotonic()
        assert "it does not answer; start it and run again" in refused(track())
        assert time.monotonic() - start < 60
    monkeypatch.setattr(runs.Runs, "_write_files", write)
    with serving(SERVE, folder, port) as server:
        assert set(statuses(server.address)) == {"FINISHED", "RUNNING"}
        run(track())
        assert statuses(server.address) == ["FINISHED"] * 4


@pytest.mark.slow
@pytest.mark.workflow
def test_a_store_that_is_down_fails_tracking_alone_and_the_next_call_only_tracks(
    folder: Path,
) -> None:
    shutil.rmtree(TINY / "tables")
    port = free_port()
    variables = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    code, _, err = ended(snakemake(variables=variables))
    assert code == 1 and "Traceback" not in err
    assert (TINY / "tables" / "manifest.json").exists() and (
        TINY / "figures" / "manifest.json"
    ).exists()
    reason, last = [line for line in err.splitlines()[-8:] if line.startswith(MARK)]
    assert reason.startswith(
        f"{MARK}cannot write to the MLflow store http://127.0.0.1:{port}: it does not answer"
    )
    assert "the same command resumes" in last
    made = contents_of(TINY / "tables") | contents_of(TINY / "figures")
    with serving(SERVE, folder, port) as server:
        code, _, err = ended(snakemake(variables=variables))
        assert code == 0 and f"  {server.address}/#/experiments/" in err, err
        assert statuses(server.address) == ["FINISHED"] * 4
    assert ran() == ["all", "track_cells_0", "track_study"]
    assert contents_of(TINY / "tables") | contents_of(TINY / "figures") == made


def ran() -> list[str]:
    """Return the rules of the jobs that Snakemake finished, as its newest log says."""
    newest = max(Path(".snakemake/log").glob("*.log"))
    return sorted(re.findall(r"^Finished jobid: .*Rule: (\w+)", newest.read_text(), re.MULTILINE))


def resumed() -> bool:
    """Return whether the training job went on from its checkpoint."""
    log = PATHS.log("train", JOB.cell.path, JOB.seeds)
    return "resuming from the checkpoint after" in log.read_text()


@pytest.mark.slow
@pytest.mark.workflow
def test_without_mlflow_all_but_tracking_finishes(folder: Path, tmp_path: Path) -> None:
    (TINY / "tables" / "runs.csv").unlink()
    code, _, err = ended(snakemake(missing=without("mlflow", tmp_path / "without")))
    assert code == 1 and "Traceback" not in err
    assert (
        ran() == ["figures", "report", "tables"] and (TINY / "figures" / "manifest.json").exists()
    )
    reason, _ = [line for line in err.splitlines()[-8:] if line.startswith(MARK)]
    assert reason.startswith(f"{MARK}No module named 'mlflow'; install the locked versions")


@pytest.mark.parametrize(("package", "command"), [("torch", train), ("mlflow", track)])
def test_a_missing_package_is_one_line_that_names_it(
    folder: Path, tmp_path: Path, package: str, command: Callable[[], list[object]]
) -> None:
    code, _, err = ended(metabench(command(), missing=without(package, tmp_path / "without")))
    line = (
        f"{MARK}No module named {package!r}; "
        "install the locked versions: pip install -r requirements.lock"
    )
    assert only_line(code, err) == line


@pytest.mark.workflow
def test_a_results_folder_that_cannot_be_written_is_one_line_and_exit_code_2(folder: Path) -> None:
    shutil.rmtree(TINY)
    TINY.mkdir()
    TINY.chmod(0o555)
    code, _, err = ended(snakemake(preexec_fn=permissions.bound))
    assert only_line(code, err.rstrip()) == f"{MARK}cannot write {TINY}/.lock: Permission denied"
    code, _, err = ended(metabench(baselines(), preexec_fn=permissions.bound))
    assert only_line(code, err) == f"{MARK}cannot write {BASELINES}: Permission denied"
    assert not contents_of(TINY)


@pytest.mark.workflow
def test_a_second_study_in_a_folder_is_refused_in_one_line_and_the_first_is_not_disturbed(
    folder: Path,
) -> None:
    record, log = TRAINED, PATHS.log("train", JOB.cell.path, JOB.seeds)
    whole = record.read_bytes()
    record.unlink()
    lock = locks.take(CHECKPOINT.with_suffix(".lock"))  # so that the first is still at it
    assert lock
    first = snakemake(record)
    until(lambda: log.exists() and f"waiting for process {os.getpid()}" in log.read_text(), first)
    before = contents_of(Path("results"))
    code, _, err = ended(snakemake(record))
    line = f"{MARK}the study tiny is being run in this folder by process {first.pid}"
    assert only_line(code, err.rstrip()) == line
    assert contents_of(Path("results")) == before
    lock.close()
    assert ended(first)[0] == 0 and record.read_bytes() == whole


def test_two_trainings_of_the_same_runs_wait_for_each_other_and_train_once(folder: Path) -> None:
    whole = TRAINED.read_bytes()
    lock = locks.take(path := CHECKPOINT.with_suffix(".lock"))
    assert lock
    both = [metabench(train()) for _ in range(2)]
    for process in both:
        assert process.stderr
        assert process.stderr.readline() == f"engine: {engine.name()}\n"
        assert (
            process.stderr.readline()
            == f"waiting for process {os.getpid()}, which trains the same runs\n"
        )
    TRAINED.unlink()
    lock.close()
    answers = [ended(process) for process in both]
    assert [code for code, _, _ in answers] == [0, 0]
    errors = sorted(text for _, _, text in answers)
    assert errors[0] == f"resuming from the checkpoint after {LENGTH} of {LENGTH} meta-iterations\n"
    assert "resuming" not in errors[1] and f"{LENGTH} of {LENGTH} (100%)" in errors[1]
    assert locks.holder(path) in {str(process.pid) for process in both}
    assert TRAINED.read_bytes() == whole


def test_an_interrupted_training_says_so_in_one_line_and_goes_on_to_the_same_bytes(
    folder: Path,
) -> None:
    whole = TRAINED.read_bytes()
    TRAINED.unlink()
    process = metabench(train())
    until(CHECKPOINT.exists, process)
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert "interrupted; the same command resumes" in only_line(code, err, 130)
    assert not TRAINED.exists()
    assert "resuming from the checkpoint after" in run(train())
    assert TRAINED.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.workflow
def test_an_interrupted_study_needs_no_unlock_and_goes_on_to_the_same_bytes(folder: Path) -> None:
    record = TRAINED
    whole = record.read_bytes()
    record.unlink()
    process = snakemake(record)
    until(CHECKPOINT.exists, process)
    os.killpg(process.pid, signal.SIGINT)
    code, out, err = ended(process)
    assert code == 1 and "Traceback" not in out + err and not record.exists()
    assert [line for line in err.splitlines() if "resumes" in line or "fail" in line.lower()] == [
        f"{MARK}interrupted; the same command resumes"
    ]
    code, _, err = ended(snakemake(record))
    assert code == 0 and resumed(), err
    assert "\n  1 of " in err and " on 1 core\n" in err, err
    assert record.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.workflow
def test_a_killed_training_job_lets_the_others_finish_and_goes_on_from_its_checkpoint(
    folder: Path,
) -> None:
    before, targets = (
        contents_of(TINY),
        (TRAINED, PATHS.evaluated(OTHER.cell.path, "standard", OTHER.seeds)),
    )
    shutil.rmtree(TINY)
    process, checkpoint = snakemake(*targets), CHECKPOINT
    until(checkpoint.exists, process)
    os.kill(int(locks.holder(checkpoint.with_suffix(".lock"))), signal.SIGKILL)
    code, _, err = ended(process)
    assert code == 1 and "Traceback" not in err
    assert (
        not TRAINED.exists() and PATHS.evaluated(OTHER.cell.path, "standard", OTHER.seeds).exists()
    )
    code, _, err = ended(snakemake(*targets))
    assert code == 0 and resumed(), err
    assert ran() == ["train"]
    for path in targets:
        assert path.read_bytes() == before[path.relative_to(TINY)]


KILLED = """
import os, signal
import numpy as np
from metabench.records import artifacts
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
artifacts.write({path!r}, {{"a": np.ones(9)}}, {{}})
"""


def test_what_a_killed_writer_left_is_swept_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "record.safetensors"
    artifacts.write(path, {"a": np.zeros(9)}, {})
    old = path.read_bytes()
    code, _, _ = ended(started(["python", "-c", KILLED.format(path=str(path))]))
    assert (
        code == -signal.SIGKILL and path.read_bytes() == old and len(list(tmp_path.iterdir())) == 2
    )
    artifacts.write(path, {"a": np.ones(9)}, {})
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() != old


def test_tables_that_were_changed_by_hand_are_not_drawn_and_one_line_names_the_file(
    folder: Path,
) -> None:
    path = TINY / "tables" / "runs.csv"
    path.write_text(path.read_text().replace("ok", "ko"))
    assert f"{path} is damaged or was changed" in refused(draw())
    assert not (TINY / "figures").exists()
