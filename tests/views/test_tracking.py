"""A study in MLflow: its contents, and stores that were changed or copied."""

import base64
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
import small
import yaml
from browser import in_a_browser, launched
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.utils.credentials import read_mlflow_creds
from pipeline import free_port
from playwright.sync_api import Browser, Page

from metabench import jobs
from metabench.analysis import frames, tables
from metabench.cli import main
from metabench.records import artifacts
from metabench.records.artifacts import ArtifactError
from metabench.records.layout import Layout
from metabench.records.measured import COST_COLUMNS
from metabench.records.running import Running
from metabench.study import config
from metabench.study.cells import Cell
from metabench.study.jobs import seeds_of
from metabench.views.drawing.reading import Tables
from metabench.views.report import findings
from metabench.views.tracking import contents, mirror, rest, runs, server, store, ui, view
from metabench.views.tracking.contents import Content, Point
from metabench.workflow.artefacts import batches

FINISHED = "results/tiny"
# The second step makes FOMAML diverge.
CONTENT = small.tiny(
    seeds=3,
    cells=[small.short_fomaml(30, [0.01, 1e6]), small.RANDOM],
    validation={"tasks": 4, "interval": 10},
)
STUDY = small.study(CONTENT)
GOOD, BAD = (cell for cell in STUDY.cells if cell.algorithm == "fomaml")
RUNS = len(STUDY.cells) * STUDY.config.seeds


def running(root: Path) -> Running:
    """Return the study as it is run in a folder."""
    return small.running(CONTENT, root)


def track_block(root: Path, cell: Cell, seeds: str, name: str) -> None:
    """Mirror the runs of one block of a cell's seeds."""
    with mirror.opened(running(root), name) as opened:
        opened.track_cell(cell, [seeds])


def track(root: Path) -> str:
    """Do what the workflow does, and return what it prints last."""
    name = store.store_name(root, "tiny")
    for batch in batches(running(root)):
        jobs.track_cells(running(root), batch, name)
    return jobs.track_study(running(root), name)


def batch_command(root: Path, batch: str, name: str) -> list[str]:
    """Return the command that mirrors a batch, as a rule of the workflow gives it."""
    study = ["--study", str(Layout(root).study)]
    return ["track", "cells", *study, "--batch", batch, "--store", name]


def study_command(root: Path, name: str) -> list[str]:
    """Return the command that mirrors the study's own run."""
    return ["track", "study", "--study", str(Layout(root).study), "--store", name]


def run(command: list[str]) -> Result:
    """Run one metabench command here."""
    return CliRunner().invoke(main, command, catch_exceptions=False)


def in_background(command: list[str], cwd: Path) -> subprocess.Popen[bytes]:
    """Start one metabench command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(small.ROOT)}
    return subprocess.Popen([sys.executable, "-m", "metabench", *command], cwd=cwd, env=environment)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a study has been computed and not yet tracked.

    Its store has only its tables: laying them out takes hundreds of small writes.
    """
    folder = tmp_path_factory.mktemp("finished")
    root = folder / FINISHED
    small.finish(running(root))
    MlflowClient(f"sqlite:///{root}/mlflow.db").search_experiments()
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, with no store named in the environment."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copytree(finished, tmp_path / "copy"))


Tracked = tuple[Path, MlflowClient, str]
"""Root, client, printed text."""


@pytest.fixture(scope="session")
def tracked(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracked]:
    """A study that has been tracked, for tests that only read."""
    root = Path(shutil.copytree(finished, tmp_path_factory.mktemp("tracked") / "copy")) / FINISHED
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        printed = track(root)
        yield root, MlflowClient(store.uri_of(root)), printed


def all_runs(client: MlflowClient, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    experiment = client.get_experiment_by_name("tiny").experiment_id
    return list(client.search_runs([experiment], run_view_type=view))


def children(client: MlflowClient) -> dict[tuple[str, int], Run]:
    """The runs by (cell, seed), of which each must be there once."""
    runs = [r for r in all_runs(client) if r.data.tags["metabench.kind"] == "run"]
    found = {(r.data.tags["metabench.cell"], int(r.data.tags["metabench.seed"])): r for r in runs}
    assert len(found) == len(runs)
    return found


def parent(client: MlflowClient) -> Run:
    (found,) = [r for r in all_runs(client) if r.data.tags["metabench.kind"] == "study"]
    return found


def ids(client: MlflowClient, view: int = ViewType.ALL) -> list[str]:
    return sorted(r.info.run_id for r in all_runs(client, view))


Points = dict[tuple[str, int], float]
"""Values by metric and step."""


def expected_points(root: Path) -> dict[tuple[str, int], Points]:
    """What the tables say must be logged, by cell and seed; infinite values included."""
    points: dict[tuple[str, int], Points] = {}
    for row in frames.read(root / "tables", "runs.csv").itertuples():
        costs = {(name, 0): getattr(row, name) for name in COST_COLUMNS.values()}
        points[row.cell, row.seed] = costs
    history = frames.read(root / "tables", "history.csv")
    for row in history.itertuples():
        own = points[row.cell, row.seed]
        own["validation_loss", row.meta_iteration] = own["final_validation_loss", 0] = (
            row.validation_loss
        )
    curves = frames.read(root / "tables", "curves.parquet")
    # A cell is judged by its own step size if it has one, else by the tuned one.
    steps = curves.groupby(["cell", "protocol"], observed=True)["step"].agg(set)
    for row in curves.itertuples():
        judged = "own" if "own" in steps[row.cell, row.protocol] else "tuned"
        own = points[row.cell, row.seed]
        for name, value in (("mean", row.mean), ("median", row.median)):
            own[f"{row.protocol}/{row.step}/{row.region}/{name}", row.update] = value
            if (row.region, row.step) == ("all", judged):
                own[f"{row.protocol}/final_{name}", 0] = value
    return points


def expected_scores(root: Path) -> dict[tuple[str, int], Points]:
    """The score of each run after the last update of each protocol, of its losses in the tables."""
    every = frames.read(root / "tables", "tasks.parquet").query("region == 'all'")
    zero = every[every["algorithm"] == "zero"].set_index(["protocol", "task"])["loss"]
    own = every[every["seed"] >= 0].set_index(["protocol", "task"])
    own["score"] = np.minimum(own["loss"] / zero.reindex(own.index), 1)
    found: dict[tuple[str, int], Points] = {}
    means = own.groupby(["cell", "seed", "protocol"], observed=True)["score"].mean()
    for (cell, seed, protocol), score in means.items():
        found.setdefault((cell, seed), {})[f"{protocol}/final_score", 0] = score
    return found


def logged_points(client: MlflowClient, run: Run) -> Points:
    found = [m for key in run.data.metrics for m in client.get_metric_history(run.info.run_id, key)]
    points = {(m.key, m.step): m.value for m in found}
    assert len(points) == len(found), "a point was logged twice"
    return points


def assert_numbers_are_those_of_the_tables(client: MlflowClient, root: Path) -> None:
    expected, runs, scores = expected_points(root), children(client), expected_scores(root)
    assert set(runs) == set(expected)
    for key, run in runs.items():
        logged = logged_points(client, run)
        missing = [point for point, value in expected[key].items() if not isfinite(value)]
        assert logged.pop(("non_finite_points", 0)) == len(missing)
        for point, score in scores[key].items():
            assert logged.pop(point) == pytest.approx(score, rel=1e-6), (key, point)
        finite = {point: value for point, value in expected[key].items() if isfinite(value)}
        assert set(logged) == set(finite)
        for point, value in finite.items():
            nine_digits = pytest.approx(value, rel=1e-8)  # as tables have them
            assert logged[point] == nine_digits, (key, point)


def test_every_number_logged_is_the_number_in_the_tables(tracked: Tracked) -> None:
    root, client, _ = tracked
    assert len(children(client)) == RUNS
    assert_numbers_are_those_of_the_tables(client, root)


def test_a_diverged_run_is_there_with_its_status_and_without_a_final_loss(tracked: Tracked) -> None:
    root, client, _ = tracked
    rows = frames.read(root / "tables", "runs.csv").set_index(["cell", "seed"])
    assert (rows.loc[BAD.name, "status"] == "diverged").all()
    for key, run in children(client).items():
        row = rows.loc[key]
        assert run.info.status == "FINISHED"
        assert run.data.tags["status"] == row["status"]
        assert run.data.tags.get("diverged_at") == (
            None if row["status"] == "ok" else f"{row['diverged_at']:.0f}"
        )
        assert ("standard/final_mean" in run.data.metrics) == (row["status"] == "ok")
        assert not [value for value in run.data.metrics.values() if abs(value) > 1e300]


def test_a_run_names_what_it_was_made_with(tracked: Tracked) -> None:
    root, client, _ = tracked
    run = children(client)[GOOD.name, 2]
    expected_params = {
        "algorithm": "fomaml",
        "cell": GOOD.name,
        "role": "published",
        "seed": "2",
        "meta_iterations": "30",
    }
    settings = {"meta_step_size": "0.01", "network.hidden": "[8]", "step_size.standard.own": "0.02"}
    assert run.data.params.items() >= {**expected_params, **settings}.items()
    assert run.info.run_name == f"fomaml seed 2, {GOOD.name}"
    header = artifacts.read(Layout(root).trained(GOOD.path, "2-2"))[1]
    assert run.data.tags["train.code"] == header["code"]
    assert run.data.tags["train.config"] == header["config"]
    assert run.data.tags["train.versions.torch"] == header["versions"]["torch"]
    assert run.data.tags.keys() >= {
        "commit",
        "dirty",
        "processor",
        "engine",
        "threads",
        "versions.mlflow",
    }


def test_theta_is_the_runs_slice_of_the_block(tracked: Tracked, tmp_path: Path) -> None:
    root, client, _ = tracked
    origins = {
        (cell.name, seed): (cell, seeds, place)
        for cell, seeds in STUDY.train_jobs
        for place, seed in enumerate(seeds_of(seeds))
    }
    for key, run in children(client).items():
        file = client.download_artifacts(run.info.run_id, "theta.safetensors", str(tmp_path))
        arrays, header = artifacts.read(file)
        whole, block, place = origins[key]
        theta = artifacts.read(Layout(root).trained(whole.path, block))[0]["theta"]
        np.testing.assert_array_equal(arrays["theta"], theta[[place]])
        seed = key[1]
        assert header["kind"] == "train"  # what `metabench predict` reads
        assert header["seeds"] == f"{seed}-{seed}"


def test_the_studys_run_holds_tables_figures_settings_banks_and_all_runs(
    tracked: Tracked, tmp_path: Path
) -> None:
    root, client, _ = tracked
    run = parent(client)
    assert {r.data.tags["mlflow.parentRunId"] for r in children(client).values()} == {
        run.info.run_id
    }
    got = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    for name in [
        *(f"tables/{table}" for table in tables.names()),
        "figures/curve.svg",
        "report.html",
        "provenance.json",
    ]:
        assert (got / name).read_bytes() == (root / name).read_bytes()
    assert config.parse(json.loads((got / "config.json").read_text())) == STUDY.config
    banks = {d.dataset.name: d for d in run.inputs.dataset_inputs}
    assert set(banks) == {"tiny test-bank", "tiny validation-bank"}
    assert banks["tiny test-bank"].tags[0].value == "test"
    assert json.loads(banks["tiny test-bank"].dataset.profile) == {"num_rows": 6}
    table = np.loadtxt(got / "banks" / "test-bank.csv", delimiter=",", skiprows=1)
    assert len(table) == 6
    least, largest = STUDY.config.tasks.amplitude
    assert ((table[:, 1] >= least) & (table[:, 1] < largest)).all()


def test_predictions_made_elsewhere_are_runs_with_the_losses_of_the_table(folder: Path) -> None:
    root = folder / FINISHED
    questions = pd.read_parquet(jobs.export_bank(running(root), folder / "bank")[1])
    halves = [questions.assign(prediction=n / 2, seed=n) for n in range(3)]
    pd.concat(halves).to_parquet(folder / "half.parquet")
    questions.assign(prediction=0).to_parquet(folder / "nil.parquet")
    entries = [
        {"predictions": f"{folder}/{name}.parquet", "name": name} for name in ("half", "nil")
    ]
    started = small.running(CONTENT | {"cells": [*CONTENT["cells"], *entries]}, root)
    for name in started.study.predictions:
        jobs.predictions(started, name)
    jobs.tables(started)
    name = store.store_name(root, "tiny")
    for batch in batches(started):
        jobs.track_cells(started, batch, name)
    assert jobs.track_study(started, name).startswith(f"{RUNS + 4} runs")
    before = ids(client := MlflowClient(f"sqlite:///{root}/mlflow.db"), ViewType.ACTIVE_ONLY)
    rows = frames.read(root / "tables", "tasks.parquet").query("region == 'all'")
    for key, run in children(client).items():
        tags = run.data.tags
        if tags["metabench.algorithm"] in started.study.predictions:
            mine = rows[
                (rows["algorithm"] == tags["metabench.algorithm"]) & (rows["seed"] == key[1])
            ]
            for protocol, losses in mine.groupby("protocol", observed=True)["loss"]:
                logged = run.data.metrics[f"{protocol}/final_mean"]
                assert logged == pytest.approx(losses.mean(), rel=1e-6)
            assert run.data.tags["mlflow.parentRunId"] == parent(client).info.run_id
    assert parent(client).data.metrics["standard/none/nil -"] == 1
    jobs.track_study(started, name)
    assert ids(client, ViewType.ACTIVE_ONLY) == before, "what is mirrored is left alone"


def test_the_studys_headline_is_that_of_the_leaderboard(tracked: Tracked) -> None:
    root, client, _ = tracked
    logged = logged_points(client, parent(client))
    rows = frames.read(root / "tables", "leaderboard.csv").query("step in ['own', 'tuned']")
    rows = rows[(rows["role"] == "published") | rows["selected"]]
    expected = {
        (
            contents.plain(f"{row['protocol']}/{row['step']}/{row['algorithm']} {row['cell']}"),
            0,
        ): row["score"]
        for row in rows.to_dict("records")
    }
    assert expected.keys() == logged.keys() and len(logged) > 3
    assert all(logged[name] == pytest.approx(expected[name], rel=1e-8) for name in expected)
    assert len(logged) <= 30 and all(
        len(run.data.metrics) <= 30 for run in children(client).values()
    )


def test_experiment_and_study_say_what_was_found_and_how_to_read_it(tracked: Tracked) -> None:
    root, client, _ = tracked
    note = parent(client).data.tags["mlflow.note.content"]
    found = findings.sentences(Tables(root / "tables"), ["robustness", "standard"], 0.95)
    assert CONTENT["source"] in note and all(sentence in note for sentence in found)
    assert "child runs are the training runs" in note
    assert client.get_experiment_by_name("tiny").tags["mlflow.note.content"] == note


def test_tracking_twice_adds_nothing(folder: Path) -> None:
    root = folder / FINISHED
    track(root)
    client = MlflowClient(store.uri_of(root))
    marker = Layout(root).study_marker(store.store_name(root, "tiny"))
    before, text = ids(client), marker.read_text()
    track(root)
    assert ids(client) == before
    assert len(before) == RUNS + 1
    assert Layout(root).study_marker(store.store_name(root, "tiny")) == marker
    assert marker.read_text() == text
    assert_numbers_are_those_of_the_tables(client, root)


def test_one_process_tracks_the_studies_of_two_folders_each_in_its_own_store(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("one", "two"):
        folder = shutil.copytree(finished, tmp_path / name)
        monkeypatch.chdir(folder)
        root = Path(FINISHED)
        track_block(root, GOOD, "2-2", store.store_name(root, "tiny"))
        (run_id,) = [path.name for path in (root / "mlartifacts").iterdir()]
        assert MlflowClient(f"sqlite:///{folder}/{root}/mlflow.db").get_run(run_id)


def test_only_a_changed_run_is_replaced_a_lost_one_comes_back_and_a_foreign_one_goes(
    folder: Path,
) -> None:
    root = folder / FINISHED
    track(root)
    client = MlflowClient(store.uri_of(root))
    before = {key: r.info.run_id for key, r in children(client).items()}
    path = Layout(root).evaluated(GOOD.path, "standard", "0-1")
    arrays, header = artifacts.read(path)
    arrays["test/standard/own"][:, :, 1] *= 2  # of the block's second seed
    artifacts.write(path, arrays, header)
    jobs.tables(running(root))
    client.delete_run(before[GOOD.name, 2])  # as somebody might in MLflow's pages
    experiment = client.get_experiment_by_name("tiny").experiment_id
    foreign = runs.run_tags(("fomaml", "inner 0.02, meta 0.5", 0))
    client.create_run(experiment, tags=foreign, run_name="of an older grid")
    name = store.store_name(root, "tiny")
    track_block(root, GOOD, "0-1", name)
    jobs.track_study(running(root), name)
    after = {key: r.info.run_id for key, r in children(client).items()}
    assert set(after) == set(before)
    assert {key for key in after if after[key] != before[key]} == {(GOOD.name, 1), (GOOD.name, 2)}
    assert_numbers_are_those_of_the_tables(client, root)
    assert {r.data.tags["mlflow.parentRunId"] for r in children(client).values()} == {
        parent(client).info.run_id
    }


def test_a_run_is_found_again_whatever_quotes_are_in_the_name_of_its_cell(folder: Path) -> None:
    root = folder / FINISHED
    with mirror.opened(running(root), store.store_name(root, "tiny")) as opened:
        for name in ("loss it's, meta 0.1", 'loss "it\'s"', "loss 50%_\\", "loss [it]*"):
            key = ("mine", name, 0)
            made = opened.client.create_run(opened.experiment, tags=runs.run_tags(key))
            (found,) = opened.runs.children(runs.called(name))[key]
            assert found.info.run_id == made.info.run_id


def test_a_run_has_the_status_that_the_tables_say_where_only_its_loss_is_lost(
    folder: Path,
) -> None:
    root = folder / FINISHED
    path = Layout(root).evaluated(GOOD.path, "standard", "2-2")
    arrays, header = artifacts.read(path)
    arrays["test/standard/own"][0, 0] = np.inf  # on the whole grid before any update
    artifacts.write(path, arrays, header)
    jobs.tables(running(root))
    rows = frames.read(root / "tables", "runs.csv").set_index(["cell", "seed"])
    tags = contents.runs(running(root), GOOD, "2-2")[2].tags
    assert tags["status"] == rows.loc[(GOOD.name, 2), "status"] == "diverged"
    assert "diverged_at" not in tags


def test_a_job_killed_half_way_leaves_no_second_run_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder / FINISHED
    name, write = store.store_name(root, "tiny"), runs.Runs._write_files

    def killed(self: runs.Runs, run: Run, files: dict[str, bytes]) -> None:
        if "theta.safetensors" in files and len(children(self.client)) == 2:
            raise KeyboardInterrupt
        write(self, run, files)

    monkeypatch.setattr(runs.Runs, "_write_files", killed)
    with pytest.raises(KeyboardInterrupt):
        track_block(root, GOOD, "0-1", name)
    client = MlflowClient(store.uri_of(root))
    assert sorted(r.info.status for r in children(client).values()) == ["FINISHED", "RUNNING"]
    monkeypatch.undo()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    track(root)
    assert len(children(client)) == RUNS
    assert {r.info.status for r in children(client).values()} == {"FINISHED"}
    assert all(client.list_artifacts(r.info.run_id) for r in children(client).values())
    assert_numbers_are_those_of_the_tables(client, root)


def test_looking_for_the_store_leaves_no_trace_and_is_stable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder / FINISHED
    before = sorted(folder.rglob("*"))
    names = {store.store_name(root, "tiny") for _ in range(2)}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/nowhere/else.db")
    names.add(store.store_name(root, "tiny"))
    assert len(names) == 2
    assert sorted(folder.rglob("*")) == before


def test_a_changed_uri_is_another_store_and_back_again_is_the_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder / FINISHED
    first = store.store_name(root, "tiny")
    track_block(root, GOOD, "2-2", first)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/other.db")
    assert store.store_name(root, "tiny") != first
    with pytest.raises(rest.StoreError, match="MLFLOW_TRACKING_URI now means"):
        track_block(root, GOOD, "2-2", first)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert store.store_name(root, "tiny") == first


@pytest.mark.parametrize("loss", ["experiment", "artifacts"])
def test_a_deleted_experiment_or_artifact_folder_is_noticed_and_rebuilt(
    folder: Path, loss: str
) -> None:
    root = folder / FINISHED
    first = store.store_name(root, "tiny")
    track_block(root, GOOD, "0-1", first)
    client = MlflowClient(store.uri_of(root))
    if loss == "experiment":
        client.delete_experiment(client.get_experiment_by_name("tiny").experiment_id)
    else:
        shutil.rmtree(root / "mlartifacts")
    assert store.store_name(root, "tiny") == first.replace("-1", "-2")
    track(root)
    assert store.store_name(root, "tiny") == first.replace("-1", "-2")
    assert_numbers_are_those_of_the_tables(client, root)
    assert client.list_artifacts(children(client)[GOOD.name, 0].info.run_id)


@pytest.mark.slow
def test_a_deleted_store_is_noticed_and_two_writers_rebuild_it_without_colliding(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    root = Path(FINISHED)
    (root / "mlflow.db").unlink()
    for name in ("54974780-9/fomaml", "unrelated"):
        (root / "track" / name).mkdir(parents=True)  # without a marker: no generation
    first = store.store_name(root, "tiny")
    assert first.endswith("-1")
    marker = Layout(root).marker(first, GOOD.path, "0-1")
    store.write_marker(marker, {}, {"runs": {}})  # as if the store had been there
    second = store.store_name(root, "tiny")
    assert second == first.replace("-1", "-2")
    writers = [in_background(batch_command(root, "cells_0", second), folder) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert store.store_name(root, "tiny") == second
    client = MlflowClient(f"sqlite:///{root.absolute()}/mlflow.db")
    assert set(children(client)) == set(expected_points(root))
    assert parent(client).info.status == "RUNNING"
    Path("results/tiny/mlflow.db").unlink()
    assert store.store_name(root, "tiny") == first.replace("-1", "-3")


def test_a_moved_results_folder_is_noticed_and_its_runs_are_led_to_it(folder: Path) -> None:
    link = folder.with_name("link")  # which keeps the URI while the folder moves
    link.symlink_to(folder)
    root = link / FINISHED
    name = store.store_name(root, "tiny")
    jobs.track_cells(running(root), "cells_0", name)
    assert store.store_name(root, "tiny") == name
    before = ids(MlflowClient(store.uri_of(root)))
    link.unlink()
    link.symlink_to(moved := folder.rename(folder.with_name("moved")))
    second = name.replace("-1", "-2")
    assert store.store_name(root, "tiny") == second
    assert in_background(batch_command(root, "cells_0", second), moved).wait() == 0
    assert store.store_name(root, "tiny") == second
    client = MlflowClient(store.uri_of(moved / FINISHED))
    assert ids(client) == before, "they were whole"
    assert_all_lead_into(client, moved)


def assert_all_lead_into(client: MlflowClient, folder: Path) -> None:
    """Hold that no experiment and no run of ours, deleted ones among them, points elsewhere."""
    experiments = client.search_experiments(view_type=ViewType.ALL)
    ours = [e for e in experiments if store.ARTIFACTS_TAG in e.tags]
    runs = client.search_runs([e.experiment_id for e in ours], run_view_type=ViewType.ALL)
    places = [e.artifact_location for e in ours] + [r.info.artifact_uri for r in runs]
    assert len(places) > 2
    assert all(Path(place).is_relative_to(folder) for place in places), places


def documented_gc(study: str) -> list[str]:
    """The command that docs/tracking.md gives to remove deleted runs, for another study."""
    page = (small.ROOT / "docs" / "tracking.md").read_text()
    (line,) = [line.strip() for line in page.splitlines() if line.strip().startswith("mlflow gc")]
    return line.replace("results/flux/", f"results/{study}/").split()


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["kept", "deleted"])
def test_what_gc_deletes_in_a_copied_folder_is_not_the_original(
    folder: Path, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    track(folder / FINISHED)
    original = bytes_of(folder)
    copied = Path(shutil.copytree(folder, folder.with_name("copied"), copy_function=shutil.copy2))
    root = copied / FINISHED
    client = MlflowClient(store.uri_of(root))
    before = ids(client)
    gone = children(client)[GOOD.name, 0].info.run_id
    shutil.rmtree(root / "mlartifacts" / gone)
    if experiment == "deleted":
        client.delete_experiment(client.get_experiment_by_name("tiny").experiment_id)
    track(root)
    kept = set(before) & set(ids(client, ViewType.ACTIVE_ONLY))
    assert len(kept) == (RUNS if experiment == "kept" else 0), "all but the one that had no file"
    assert_all_lead_into(client, copied)
    monkeypatch.chdir(copied)  # with relative paths, as in the page
    command = [Path(sys.executable).with_name("mlflow"), *documented_gc("tiny")[1:]]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0 and "Traceback" not in answer.stderr, answer.stderr
    assert set(ids(client)) == set(ids(client, ViewType.ACTIVE_ONLY))
    assert bytes_of(folder) == original
    assert store.store_name(folder / FINISHED, "tiny").endswith("-1"), "nothing to be done there"
    assert_numbers_are_those_of_the_tables(client, root)
    assert all(client.list_artifacts(r.info.run_id) for r in all_runs(client))


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("whose", ["run", "study"])
def test_a_run_whose_artifacts_are_gone_is_noticed_and_written_anew(
    folder: Path, whose: str
) -> None:
    root = folder / FINISHED
    track(root)
    client, first = MlflowClient(store.uri_of(root)), store.store_name(root, "tiny")
    before = set(ids(client, ViewType.ACTIVE_ONLY))
    gone = parent(client) if whose == "study" else children(client)[GOOD.name, 2]
    shutil.rmtree(root / "mlartifacts" / gone.info.run_id)
    assert store.store_name(root, "tiny") == first.replace("-1", "-2")
    track(root)
    assert store.store_name(root, "tiny") == first.replace("-1", "-2")
    assert before - set(ids(client, ViewType.ACTIVE_ONLY)) == {gone.info.run_id}
    assert len(all_runs(client)) == RUNS + 1
    assert all(client.list_artifacts(r.info.run_id) for r in all_runs(client))


def test_an_experiment_that_somebody_else_placed_is_left_where_it_is(folder: Path) -> None:
    root = folder / FINISHED
    client = MlflowClient(store.uri_of(root))
    place = str(folder / "elsewhere")
    found = client.create_run(client.create_experiment("another", place)).info.run_id
    store.relocate(store.uri_of(root))
    track_block(root, GOOD, "2-2", store.store_name(root, "tiny"))
    assert client.get_experiment_by_name("another").artifact_location == place
    assert client.get_run(found).info.artifact_uri.startswith(place)


@pytest.mark.parametrize(
    "uri", ["postgresql://me:secret@db/flux", "./mlruns", "http://me:secret@127.0.0.1:9"]
)
def test_a_store_that_cannot_be_asked_is_the_newest_known(
    folder: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    root = folder / FINISHED
    first = store.store_name(root, "tiny")
    marker = Layout(root).marker(first.replace("-1", "-4"), GOOD.path, "0-1")
    store.write_marker(marker, {}, {})
    assert first.endswith("-1")
    assert store.store_name(root, "tiny") == first.replace("-1", "-4")
    assert "secret" not in rest.hidden(uri) and "secret" not in first


@pytest.mark.parametrize(
    "password", ["secret", "s@cret", "12345", "sec/ret", "5000/secret", "%40", "s:c"]
)
def test_a_message_says_the_address_of_a_server_without_its_user_and_password(
    password: str,
) -> None:
    uri = f"https://me:{password}@host:5000/mlflow"
    expected = "https://host:5000/mlflow"
    assert rest.hidden(uri) == expected
    assert rest.hidden(f"{uri} failed: no answer from {uri}!") == (
        f"{expected} failed: no answer from {expected}!"
    )


def test_the_name_of_a_store_does_not_depend_on_the_user_or_the_password() -> None:
    uris = ["http://host:5000", "http://me:secret@host:5000", "http://you:other@host:5000/"]
    assert len({store.prefix(uri) for uri in uris}) == 1
    assert store.prefix("http://host:5001") != store.prefix(uris[0])


def test_user_and_password_are_read_where_mlflow_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in rest.CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    assert rest._authorization("http://host") == {}
    (tmp_path / ".mlflow").mkdir()
    file = tmp_path / ".mlflow" / "credentials"
    file.write_text("[mlflow]\nmlflow_tracking_username = file\nmlflow_tracking_password = 1%2\n")
    with pytest.raises(rest.StoreError, match=r"credentials cannot be read; write % as %%$"):
        authorized("http://host")
    file.write_text(file.read_text().replace("%", "%%"))
    assert authorized("http://host") == "file:1%2" == authorized_by_mlflow()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert authorized("http://host") == "me:secret" == authorized_by_mlflow()
    assert authorized("http://you:%40@host") == "you:@"


def authorized(uri: str) -> str:
    """Return the user and the password that are sent to a server."""
    kind, coded = rest._authorization(uri)["Authorization"].split()
    assert kind == "Basic"
    return base64.b64decode(coded).decode()


def authorized_by_mlflow() -> str:
    """Return the user and the password that MLflow's client would send."""
    return ":".join(filter(None, read_mlflow_creds()))


def test_a_run_is_written_in_as_few_requests_as_mlflow_allows() -> None:
    of = runs.Runs(MlflowClient("http://127.0.0.1:9"), "1", "torch")
    points = [Point("loss", 0.5, step) for step in range(1700)]
    params = {f"p{n}": "1" for n in range(101)}
    sizes = [
        tuple(map(len, request))
        for request in of._requests(Content("run", params, points, {"status": "ok"}, {}), 0)
    ]
    labels = len(contents.surroundings("torch")) + 1
    assert sizes == [(800, 100, labels), (800, 1, 0), (100, 0, 0)]
    assert all(sum(size) <= 1000 for size in sizes)


def test_doubles_that_two_writers_left_are_gone_once_the_study_is_tracked(folder: Path) -> None:
    root = folder / FINISHED
    track(root)
    client = MlflowClient(store.uri_of(root))
    (first,) = [run for run in all_runs(client) if " seed 2, " in run.info.run_name][:1]
    with mirror.opened(running(root), store.store_name(root, "tiny")) as opened:
        cell, seed = first.data.tags["metabench.cell"], 2
        (wanted,) = (cell_ for cell_ in STUDY.cells if cell_.name == cell)
        content = contents.runs(running(root), wanted, "2-2")[seed]
        tags = runs.run_tags((wanted.algorithm, cell, seed))
        opened.runs.settle([runs.Wanted([], content, tags, 0)])
    assert len(all_runs(client)) == RUNS + 2
    track(root)
    assert len(all_runs(client)) == RUNS + 1
    assert len(children(client)) == RUNS


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("rubbish", "delete it and run again"), ("locked", "another program"), ("folder", "mlruns")],
)
def test_a_store_that_cannot_be_written_is_one_clear_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str, expected: str
) -> None:
    root = folder / FINISHED
    database = root / "mlflow.db"
    if fault == "rubbish":
        database.write_text("rubbish" * 1000)
    elif fault == "locked":
        held = sqlite3.connect(database)
        held.execute("BEGIN EXCLUSIVE")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{folder}/mlruns")
    name = store.store_name(root, "tiny")
    result = run(batch_command(root, "cells_0", name))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("metabench: cannot write to the MLflow store")
    assert expected in line
    assert not list((root / "track").rglob("*.json"))


def test_a_long_curve_is_thinned_evenly_and_keeps_its_ends() -> None:
    rows = contents.pd.DataFrame({"update": range(1001), "mean": np.arange(1001.0)})
    steps = [point.step for point in contents._curve("x", rows, "update", "mean")]
    assert (steps[0], steps[-1], len(steps) <= contents.CURVE) == (0, 1000, True)
    assert set(np.diff(steps)[:-1]) == {6}
    assert len(contents._curve("x", rows[:200], "update", "mean")) == 200


@pytest.mark.slow
def test_the_pages_show_the_study_and_a_server_is_written_like_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    root = Path(FINISHED)
    name = store.store_name(root, "tiny")
    track_block(root, GOOD, "2-2", name)
    experiment = ui.experiment(root, "tiny")
    with ui.serving(root, free_port()) as (address, _):
        client = MlflowClient(address)
        assert client.get_experiment(experiment).name == "tiny"
        assert ui.page(address, experiment).startswith(f"{address}/#/experiments/{experiment}/runs")
        run_id = children(client)[GOOD.name, 2].info.run_id
        address_of_theta = f"{address}/get-artifact?path=theta.safetensors&run_uuid={run_id}"
        stored = Path(f"results/tiny/mlartifacts/{run_id}/artifacts/theta.safetensors")
        with urllib.request.urlopen(address_of_theta) as answer:
            assert answer.read() == stored.read_bytes()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        served = store.store_name(root, "tiny")
        track_block(root, GOOD, "2-2", served)
        same_store = sorted([run_id, parent(client).info.run_id])
        assert ids(client) == same_store, "nothing doubles"
        assert store.store_name(root, "tiny") == served
        client.delete_experiment(client.get_experiment_by_name("tiny").experiment_id)
        assert store.store_name(root, "tiny") == served.replace("-1", "-2")
        assert "metabench ui --study tiny" in track(root)
        with ui.serving(root, 1) as same:
            assert same == (address, None), "a store with pages of its own needs no other"
        assert ui.experiment(root, "tiny") != experiment
        assert_numbers_are_those_of_the_tables(client, root)
        theta = client.download_artifacts(
            children(client)[GOOD.name, 2].info.run_id, "theta.safetensors", str(folder)
        )
        assert artifacts.read(theta)[1]["seeds"] == "2-2"
    assert store.store_name(root, "tiny") == served.replace("-1", "-2")  # nobody answers
    result = run(study_command(root, served.replace("-1", "-2")))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "it does not answer" in result.stderr


EMPTY = "/#/experiments/0/runs?workflowType=machine_learning"
"""The page of an experiment in which nothing is: what its console says is MLflow's own."""

OF_THE_BROWSER = ("WebGL", "ResizeObserver loop completed with undelivered notifications")
"""What Chromium says of itself, on any page: no graphics driver; a layout that took two frames,
which depends on how busy the machine is."""


class Pages:
    """MLflow's pages in a browser, and what their consoles said.

    Args:
        browser: The browser.
        address: The server's.
    """

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser, self.address = browser, address
        self.by_place: dict[str, set[str]] = {}

    def open(self, place: str, awaited: str) -> Page:
        """Return a page once it shows what is waited for."""
        page = self.browser.new_page(viewport={"width": 1400, "height": 900})
        messages = self.by_place.setdefault(place, set())
        page.on("pageerror", lambda error: messages.add(str(error)))
        page.on("console", lambda message: messages.add(message.text))
        page.goto(place if place.startswith("http") else f"{self.address}{place}")
        page.wait_for_selector(awaited, timeout=60_000)
        return page

    def said(self) -> dict[str, set[str]]:
        """Return what the console of a page said that that of an empty experiment does not."""
        known = self.by_place[EMPTY]
        own = {
            place: {text for text in messages - known if not any(w in text for w in OF_THE_BROWSER)}
            for place, messages in self.by_place.items()
        }
        return {place: messages for place, messages in own.items() if messages}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The smoke study with all its tables, figures, report and runs; its folder is entered."""
    content = yaml.safe_load((small.ROOT / "config" / "smoke.yaml").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("smoke"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        started = small.running(content, Path("results/smoke"))
        started.write()
        small.compute(started)
        jobs.tables(started)
        jobs.figures(started.layout.tables, started.layout.figures)
        jobs.report(started)
        name = store.store_name(started.layout.root, "smoke")
        for batch in batches(started):
            jobs.track_cells(started, batch, name)
        jobs.track_study(started, name)
        yield started


@pytest.fixture(scope="module")
def pages(smoke: Running) -> Iterator[Pages]:
    """MLflow's pages of the smoke study."""
    with ui.serving(smoke.layout.root, free_port()) as (address, _), launched() as browser:
        yield Pages(browser, address)


def run_of(smoke: Running, name: str) -> str:
    """Return the id of a run of the smoke study by its name."""
    client = MlflowClient(store.uri_of(smoke.layout.root))
    condition = f"attributes.run_name = '{name}'"
    (run,) = client.search_runs([ui.experiment(smoke.layout.root, "smoke")], condition)
    return str(run.info.run_id)


FROM_LEFT_TO_RIGHT = """() => [...document.querySelectorAll('.ag-header-cell')]
    .sort((a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left)
    .map(cell => cell.innerText.trim()).filter(name => name)"""
"""Names of the columns of MLflow's table of runs, in the order in which a reader sees them."""


@in_a_browser
@pytest.mark.slow
def test_the_printed_address_shows_scores_and_what_tells_runs_apart_the_best_run_first(
    smoke: Running, pages: Pages
) -> None:
    experiment = ui.experiment(smoke.layout.root, "smoke")
    page = pages.open(ui.page(pages.address, experiment), "text=fomaml seed 0, inner")
    scores = ["robustness/final_score", "standard/final_score"]
    wanted = ["Run Name", "Created", *scores, "status", "cell"]
    # The table moves its columns after it has drawn them, and does not reorder their elements.
    page.wait_for_function(f"({FROM_LEFT_TO_RIGHT})().join().startsWith('{','.join(wanted)}')")
    every = children_of(smoke)
    best = min(every, key=lambda run: run.data.metrics["robustness/final_score"])
    listed = page.locator(".ag-pinned-left-cols-container [role=row]").all_inner_texts()
    assert len(every) == 18 and len(listed) == 19, "each run, and the study's own"
    assert best.info.run_name in listed[0] and "smoke" in listed[-1]
    widths = view.columns(smoke.study)
    header = page.locator(".ag-header-cell", has_text="robustness/final_score").bounding_box()
    assert header and header["width"] == widths["metrics.`robustness/final_score`"]


def children_of(smoke: Running) -> list[Run]:
    """Return the runs of the smoke study."""
    client = MlflowClient(store.uri_of(smoke.layout.root))
    experiment = ui.experiment(smoke.layout.root, "smoke")
    return list(client.search_runs([experiment], "tags.`metabench.kind` = 'run'"))


@in_a_browser
@pytest.mark.slow
def test_pages_of_runs_draw_a_curve_compare_two_and_show_a_figure_and_the_leaderboard(
    smoke: Running, pages: Pages
) -> None:
    pages.open(EMPTY, "text=Runs")
    experiment = ui.experiment(smoke.layout.root, "smoke")
    names = [f"fomaml seed {seed}, inner 0.02, meta 0.01, 600 iterations" for seed in (0, 1)]
    two = [run_of(smoke, name) for name in names]
    of_run = f"/#/experiments/{experiment}/runs"
    curve = pages.open(f"{of_run}/{two[0]}/model-metrics", ".js-plotly-plot")
    # A chart that is not in sight is not drawn.
    curve.get_by_placeholder("Search metric charts").fill("validation_loss")
    curve.wait_for_selector(".js-plotly-plot path.js-line", state="attached")
    lines = curve.locator(".js-plotly-plot path.js-line").evaluate_all(
        "lines => lines.map(line => line.getTotalLength())"
    )
    assert max(lines) > 50, "pixels of a line that is drawn"
    both = quote(json.dumps(two))
    place = f"/#/compare-runs?runs={both}&experiments={quote(json.dumps([experiment]))}"
    compared = pages.open(place, "text=Comparing 2 Runs")
    text = compared.inner_text("body")
    assert all(name in text for name in names) and "meta_step_size" in text
    study = run_of(smoke, "smoke")
    figure = pages.open(
        f"{of_run}/{study}/artifacts/figures/validation_curves.svg", "text=validation_curves.svg"
    )
    drawn = "() => [...document.images].some(i => i.src.startsWith('blob') && i.naturalWidth > 300)"
    figure.wait_for_function(drawn, timeout=60_000)
    leaderboard = f"{of_run}/{study}/artifacts/tables/leaderboard.csv"
    table = pages.open(leaderboard, "[role=columnheader], th")
    table.wait_for_selector("td:has-text('reptile'), [role=cell]:has-text('reptile')")
    assert pages.said() == {}


@in_a_browser
@pytest.mark.slow
def test_the_report_works_within_mlflow(smoke: Running, pages: Pages) -> None:
    experiment, study = ui.experiment(smoke.layout.root, "smoke"), run_of(smoke, "smoke")
    pages.open(EMPTY, "text=Runs")
    report = pages.open(
        f"/#/experiments/{experiment}/runs/{study}/artifacts/report.html",
        "iframe.mlflow-html-iframe",
    )
    inside = report.frame_locator("iframe.mlflow-html-iframe")
    inside.locator("body[data-drawn=yes]").wait_for(timeout=60_000)
    assert inside.locator("#chart-adaptation svg path").count()
    rows = inside.locator("#board tbody tr")
    assert rows.count() > 1
    inside.locator("#board-algorithm").select_option("fomaml")
    assert set(rows.locator("td:first-child").all_inner_texts()) == {"FOMAML"}
    inside.locator("button[data-copy=csv]").click()
    inside.get_by_text("copied as csv").wait_for()
    inside.get_by_role("link", name="Leaderboard").click()
    assert pages.said() == {}


def test_pages_that_cannot_be_shown_are_one_line_that_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    root = Path(FINISHED)
    with pytest.raises(ArtifactError, match=r"the study tiny is not in sqlite:.*; run it first"):
        ui.experiment(root, "tiny")
    with socket.socket() as taken:
        taken.bind((ui.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ArtifactError, match=f"port {port} is in use; choose another"):
            ui.serving(root, port).__enter__()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ArtifactError, match="cannot be read: no answer"):
        ui.experiment(root, "tiny")


def test_an_unknown_batch_is_refused_before_the_store_is_opened(folder: Path) -> None:
    root = folder / FINISHED
    before = sorted(folder.rglob("*"))
    result = run(batch_command(root, "cells_1", store.store_name(root, "tiny")))
    assert result.exit_code == 2
    assert "unknown batch 'cells_1'; choose from cells_0" in result.stderr
    assert sorted(folder.rglob("*")) == before


def test_files_of_a_missing_version_of_postgresql_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "installed" / "15" / "bin").mkdir(parents=True)
    monkeypatch.setattr(server, "INSTALLED", tmp_path / "installed")
    monkeypatch.setenv("PATH", "")
    (tmp_path / "PG_VERSION").write_text("17\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"not found; .*apt install postgresql-17"):
        server._program("postgres", tmp_path)
