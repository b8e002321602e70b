"""Studies of two users on one server: started at once, killed, refused, and found again."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
import served
import small
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from pipeline import BIN, copy, environment, free_port
from served import Server, Study, User, finished

from metabench.views.tracking import server

MINUTES = 60.0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A finished study of 60 runs, of which one job tracks all."""
    return finished(tmp_path_factory.mktemp("study"), "half", cells=6, seeds=10)


def experiment(client: MlflowClient, name: str) -> str:
    """Return the number of an experiment."""
    return client.get_experiment_by_name(name).experiment_id


def children(client: MlflowClient, name: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """Return the runs of a study's seeds."""
    condition, token, found = "tags.`metabench.kind` = 'run'", None, []
    while True:
        page = client.search_runs([experiment(client, name)], condition, view, 200, None, token)
        found += page
        token = page.token
        if not token:
            return found


def key_of(run: Run) -> tuple[str, int]:
    """Return the cell and the seed of a run."""
    return run.data.tags["metabench.cell"], int(run.data.tags["metabench.seed"])


def wait_for_runs(client: MlflowClient, name: str, process: subprocess.Popen[str]) -> None:
    """Wait until a running process has started to track the runs of a study's seeds."""
    deadline = time.monotonic() + 20 * MINUTES
    while client.get_experiment_by_name(name) is None or not children(client, name):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


def assert_whole(user: User, name: str, keys: set[tuple[str, int]]) -> list[Run]:
    """Hold that a study has each of its runs once, complete and with its file, below its own."""
    with user.acting() as client:
        runs = children(client, name)
        (own,) = client.search_runs([experiment(client, name)], "tags.`metabench.kind` = 'study'")
        assert own.info.status == "FINISHED"
        assert len(runs) == len(keys) and {key_of(run) for run in runs} == keys
        for run in runs:
            assert run.info.status == "FINISHED"
            assert run.data.tags["mlflow.parentRunId"] == own.info.run_id
            assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
            (file,) = client.list_artifacts(run.info.run_id)
            assert file.path == "theta.safetensors" and file.file_size > 100
        assert client.list_artifacts(own.info.run_id, "tables")
    return runs


def prepared(folder: Path, user: User) -> Study:
    """Write a small study that has the user's name into a copy of the workflow."""
    content = small.tiny(study=user.name, cells=[small.short_fomaml(30, [0.01, 0.02])])
    (copy(folder) / "config" / f"{user.name}.yaml").write_text(yaml.safe_dump(content))
    return Study(folder, content)


def workflow(folder: Path, user: User) -> subprocess.Popen[str]:
    """Start the study that has the user's name, with Snakemake in a session of its own."""
    return subprocess.Popen(
        [str(BIN / "snakemake"), "--cores", "1", "--configfile", f"config/{user.name}.yaml"],
        cwd=folder,
        env=environment() | user.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_two_studies_started_at_once_on_an_empty_database_are_side_by_side(
    shared: Server, anna: User, ben: User, tmp_path: Path
) -> None:
    with anna.acting() as client:
        assert [found.name for found in client.search_experiments()] == ["Default"]
    studies = {user: prepared(tmp_path / user.name, user) for user in (anna, ben)}
    started = {user: workflow(study.folder, user) for user, study in studies.items()}
    for user, process in started.items():
        printed, _ = process.communicate(timeout=20 * MINUTES)
        assert process.returncode == 0, printed
        assert f"{shared.address}/#/experiments/" in printed
        layout = tmp_path / user.name / "results" / user.name
        assert len(list((layout / "track").rglob("*.json"))) == 3
    for reader, owner in ((anna, ben), (ben, anna)):
        assert_whole(reader, owner.name, studies[owner].keys)


def test_a_workflow_that_is_killed_as_it_tracks_leaves_no_doubles(
    shared: Server, tmp_path: Path
) -> None:
    dora = served.add_user(shared, "dora")
    study = prepared(tmp_path / dora.name, dora)
    killed = workflow(study.folder, dora)
    with dora.acting() as client:
        wait_for_runs(client, dora.name, killed)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        ended = [run for run in children(client, dora.name) if run.info.end_time]
        assert len(ended) < len(study.keys), "it was killed half way"
    again = workflow(study.folder, dora)
    printed, _ = again.communicate(timeout=20 * MINUTES)
    assert again.returncode == 0, printed
    assert_whole(dora, dora.name, study.keys)


def test_a_study_that_is_killed_half_way_is_tracked_again_without_doubles(
    anna: User, study: Study
) -> None:
    name, path = study.store_of(anna), str(study.running.layout.study)
    command = ["track", "cells", "--study", path, "--batch", "cells_0", "--store", name]
    process = served.metabench(study.folder, anna, *command)
    with anna.acting() as client:
        wait_for_runs(client, "half", process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept = {run.info.run_id for run in children(client, "half") if run.info.end_time}
        assert len(children(client, "half")) < len(study.keys)
    assert "60 runs of half are in MLflow" in study.tracked_by(anna)[-1]
    runs = assert_whole(anna, "half", study.keys)
    assert kept <= {run.info.run_id for run in runs}, "what was complete is kept"
    study.tracked_by(anna)
    again = assert_whole(anna, "half", study.keys)
    assert {run.info.run_id for run in again} == {run.info.run_id for run in runs}


def test_a_study_of_another_user_is_read_and_cannot_be_changed(
    anna: User, ben: User, study: Study
) -> None:
    study.tracked_by(anna)
    before = {run.info.run_id for run in assert_whole(ben, "half", study.keys)}
    with ben.acting() as client:
        run = children(client, "half")[0].info.run_id
        for change in (
            lambda: client.delete_run(run),
            lambda: client.log_metric(run, "loss", 1.0),
            lambda: client.log_text(run, "ben's", "theta.safetensors"),
        ):
            with pytest.raises(Exception, match="403"):
                change()
    (printed, *_) = study.tracked_by(ben)
    line, code = printed.splitlines()
    assert "belongs to another user; give the study a different name" in line
    assert code == "exit code 2"
    assert {run.info.run_id for run in assert_whole(anna, "half", study.keys)} == before


def test_a_user_to_whom_the_owner_grants_it_tracks_the_same_study(
    anna: User, study: Study, shared: Server
) -> None:
    study.tracked_by(anna)
    before = {run.info.run_id for run in assert_whole(anna, "half", study.keys)}
    cleo = served.add_user(shared, "cleo")
    with anna.acting() as client:
        number = experiment(client, "half")
    granted = {"resource_type": "experiment", "resource_id": number, "permission": "MANAGE"}
    anna.posts("3.0/mlflow/users/permissions/grant", {"username": cleo.name, **granted})
    with cleo.acting() as client:
        client.delete_run(min(before))
    assert "60 runs" in study.tracked_by(cleo)[-1]
    after = {run.info.run_id for run in assert_whole(anna, "half", study.keys)}
    assert before - after == {min(before)}, "only the deleted run is written again"


def test_nobody_without_a_user_name_sees_anything(shared: Server, anna: User, study: Study) -> None:
    study.tracked_by(anna)
    with anna.acting() as client:
        run = children(client, "half")[0].info.run_id
    for place in (
        "api/2.0/mlflow/experiments/get-by-name?experiment_name=half",
        f"api/2.0/mlflow/artifacts/list?run_id={run}",
        f"get-artifact?path=theta.safetensors&run_uuid={run}",
        "api/2.0/mlflow-artifacts/artifacts?path=",
    ):
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(f"{shared.address}/{place}")
        refused.value.close()


def test_a_wrong_password_is_one_line_and_the_right_one_mends_it(anna: User, study: Study) -> None:
    study.tracked_by(anna)
    wrong = anna._replace(password="another-secret")
    for printed in study.tracked_by(wrong):
        line, code = printed.splitlines()
        assert line.endswith(
            "it rejects the user name or the password; "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD and run again"
        )
        assert code == "exit code 2" and wrong.password not in line
    assert "60 runs" in study.tracked_by(anna)[-1]


def test_no_password_is_in_results_logs_or_the_store(
    shared: Server, anna: User, study: Study
) -> None:
    from urllib.parse import quote

    # The password is once in the environment, once in the address, and once encoded there.
    host = shared.address.removeprefix("http://")
    encoded = quote(anna.password, safe="")
    printed = study.tracked_by(anna)
    by_address = anna._replace(name="", password="", address=f"http://anna:{encoded}@{host}")
    assert study.store_of(by_address) == study.store_of(anna)
    printed += study.tracked_by(by_address)
    printed += study.tracked_by(by_address._replace(address=f"http://anna:{encoded}@127.0.0.1:9"))
    assert "does not answer" in printed[-1]
    data = shared.folder / "postgres"
    dump = [server._program("pg_dump", data), "-h", str(data), "-U", "mlflow", "postgres"]
    stored = subprocess.run(dump, capture_output=True, check=True).stdout
    assert b"metabench.digest" in stored
    files = [*study.folder.rglob("*"), *shared.folder.glob("*.log"), *shared.folder.glob("*.ini")]
    contents = {str(path): path.read_bytes() for path in files if path.is_file()}
    contents |= {"printed": "".join(printed).encode(), "database": stored}
    for secret in (anna.password.encode(), encoded.encode()):
        assert not [name for name, content in contents.items() if secret in content]
    names = [str(path) for path in [*files, *(shared.folder / "artifacts").rglob("*")]]
    assert not [name for name in names if encoded in name or anna.password in name]


def test_a_server_that_ended_or_was_killed_finds_everything_again(data: Path, study: Study) -> None:
    port = free_port()
    with served.running(data, port) as first:
        anna = served.add_user(first, "anna")
        study.tracked_by(anna)
        name = study.store_of(anna)
        runs = assert_whole(anna, "half", study.keys)
    assert first.process.returncode == 0
    (printed, *_) = study.tracked_by(anna)
    line, code = printed.splitlines()
    assert "it does not answer; start it and run again" in line and code == "exit code 2"
    with served.running(data, port) as second:
        assert study.store_of(anna) == name
        refused = subprocess.run(
            [BIN / "metabench", "server", "--data", data, "--port", str(free_port())],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (refused.returncode, refused.stderr) == (
            2,
            f"metabench: process {second.process.pid} already serves {data}\n",
        )
        study.tracked_by(anna)
        assert {run.info.run_id for run in assert_whole(anna, "half", study.keys)} == {
            run.info.run_id for run in runs
        }
        postmaster = int((data / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        assert second.process.wait(60) == 2
        assert "PostgreSQL has ended; see the logs" in second.process.stderr.read()
    with served.running(data, port) as third:
        started = psutil.Process(third.process.pid).children(recursive=True)
        third.process.kill()
        third.process.wait()
        for process in started:
            if process.name() != "postgres":
                process.kill()
    with served.running(data, free_port()) as fourth:
        moved = anna._replace(address=fourth.address)
        study.tracked_by(moved)
        assert {run.info.run_id for run in assert_whole(moved, "half", study.keys)} == {
            run.info.run_id for run in runs
        }
