import json
import os
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from math import isfinite
from pathlib import Path

import numpy as np
import pytest
import small
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import ViewType
from pipeline import serving

from metabench.analysis import frames, tables
from metabench.cli import main
from metabench.records import artifacts, manifests, records
from metabench.records.provenance import canonical
from metabench.records.records import Paths
from metabench.study import config, plans
from metabench.views.tracking import contents, mirror, store

FINISHED = "results/tiny"
# The second step makes FOMAML diverge.
CONTENT = small.tiny(
    seeds=3,
    cells=[small.short_fomaml(30, [0.01, 1e6]), small.RANDOM],
    validation={"tasks": 4, "interval": 10},
)
STUDY = config.parse(CONTENT)
JOBS = list(plans.train_jobs(STUDY))
GOOD, BAD = (cell for cell in plans.cells(STUDY) if cell.algorithm == "fomaml")
RUNS = len(plans.cells(STUDY)) * STUDY.seeds


def run(*arguments):
    """Run one metabench command here, and return its output."""
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def cell_command(root, cell, block, name):
    settings = canonical(contents.cell_settings(STUDY, cell))
    out = store.marker(root, name, cell, block)
    return [
        "track",
        "cells",
        "--settings",
        settings,
        "--seeds",
        block,
        "--root",
        root,
        "--store",
        name,
        "--out",
        out,
    ]


def study_command(root, name):
    out = store.study_marker(root, name)
    return [
        "track",
        "study",
        "--study",
        json.dumps(CONTENT),
        "--root",
        root,
        "--store",
        name,
        "--out",
        out,
    ]


def track(root):
    """Do what the workflow does, and return what it prints last."""
    name = store.store_name(root, "tiny")
    for cell, block in JOBS:
        run(*cell_command(root, cell, block, name))
    return run(*study_command(root, name))


def elsewhere(command, cwd):
    """Start one metabench command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(small.ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "metabench", *map(str, command)], cwd=cwd, env=environment
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder in which a study has been computed and not yet tracked, with a store that has only
    its tables.
    """
    folder = tmp_path_factory.mktemp("finished")
    root = folder / FINISHED
    paths = Paths(root)
    for cell, block in JOBS:
        settings = [
            canonical(make(STUDY, cell)) for make in (plans.train_settings, plans.evaluate_settings)
        ]
        theta, losses = paths.trained(cell, block), paths.evaluated(cell, block)
        run(
            "train",
            "--settings",
            settings[0],
            "--seeds",
            block,
            "--checkpoint",
            folder / "state",
            "--out",
            theta,
        )
        run(
            "evaluate",
            "--settings",
            settings[1],
            "--seeds",
            block,
            "--theta",
            theta,
            "--out",
            losses,
        )
    run(
        "baselines",
        "--settings",
        canonical(plans.baseline_settings(STUDY)),
        "--out",
        paths.baselines,
    )
    run("tables", "--study", json.dumps(CONTENT), "--root", root)
    (root / "figures").mkdir()
    (root / "figures" / "curve.svg").write_text("<svg/>")
    manifests.write(root / "figures", ["curve.svg"], {})
    MlflowClient(
        f"sqlite:///{root}/mlflow.db"
    ).search_experiments()  # hundreds of small writes, once
    return folder


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A copy of that folder, with no store named in the environment."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.fixture(scope="session")
def tracked(finished, tmp_path_factory):
    """A study that has been tracked, for tests that only read: root, client, printed text."""
    root = Path(shutil.copytree(finished, tmp_path_factory.mktemp("tracked") / "copy")) / FINISHED
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        printed = track(root)
        return root, MlflowClient(store.uri_of(root)), printed


def all_runs(client, view=ViewType.ACTIVE_ONLY):
    experiment = client.get_experiment_by_name("tiny").experiment_id
    return client.search_runs([experiment], run_view_type=view)


def children(client):
    """The runs by (cell, seed), of which each must be there once."""
    runs = [r for r in all_runs(client) if r.data.tags["metabench.kind"] == "run"]
    found = {(r.data.tags["metabench.cell"], int(r.data.tags["metabench.seed"])): r for r in runs}
    assert len(found) == len(runs)
    return found


def parent(client):
    (found,) = [r for r in all_runs(client) if r.data.tags["metabench.kind"] == "study"]
    return found


def ids(client, view=ViewType.ALL):
    return sorted(r.info.run_id for r in all_runs(client, view))


def expected_points(root):
    """What the tables say must be logged: {(cell, seed): {(metric, step): value}}, infinite values
    included.
    """
    points = {}
    for row in frames.read(root / "tables", "runs.csv").itertuples():
        costs = {(name, 0): getattr(row, name) for name in records.COST_COLUMNS.values()}
        points[row.cell, row.seed] = costs
    history = frames.read(root / "tables", "history.csv")
    for row in history.itertuples():
        own = points[row.cell, row.seed]
        own["validation_loss", row.meta_iteration] = own["final_validation_loss", 0] = (
            row.validation_loss
        )
    for row in frames.read(root / "tables", "curves.parquet").itertuples():
        own = points[row.cell, row.seed]
        for name, value in (("mean", row.mean), ("median", row.median)):
            own[f"{row.protocol}/{row.step}/{row.region}/{name}", row.update] = value
            if row.region == "all":
                own[f"{row.protocol}/{row.step}/final_{name}", 0] = value
    return points


def logged_points(client, run):
    found = [m for key in run.data.metrics for m in client.get_metric_history(run.info.run_id, key)]
    points = {(m.key, m.step): m.value for m in found}
    assert len(points) == len(found), "a point was logged twice"
    return points


def assert_numbers_are_those_of_the_tables(client, root):
    expected, runs = expected_points(root), children(client)
    assert set(runs) == set(expected)
    for key, run in runs.items():
        logged = logged_points(client, run)
        missing = [point for point, value in expected[key].items() if not isfinite(value)]
        assert logged.pop(("non_finite_points", 0)) == len(missing)
        finite = {point: value for point, value in expected[key].items() if isfinite(value)}
        assert set(logged) == set(finite)
        for point, value in finite.items():
            assert logged[point] == pytest.approx(value, rel=1e-8), (
                key,
                point,
            )  # tables have nine digits


def test_every_number_logged_is_the_number_in_the_tables(tracked):
    root, client, _ = tracked
    assert len(children(client)) == RUNS
    assert_numbers_are_those_of_the_tables(client, root)


def test_a_diverged_run_is_there_with_its_status_and_without_a_final_loss(tracked):
    root, client, _ = tracked
    rows = frames.read(root / "tables", "runs.csv").set_index(["cell", "seed"])
    assert (rows.loc[BAD.id, "status"] == "diverged").all()
    for key, run in children(client).items():
        row = rows.loc[key]
        assert run.info.status == "FINISHED"
        assert run.data.tags["status"] == row["status"]
        assert run.data.tags.get("diverged_at") == (
            None if row["status"] == "ok" else f"{row['diverged_at']:.0f}"
        )
        assert ("standard/common/final_mean" in run.data.metrics) == (row["status"] == "ok")
        assert not [value for value in run.data.metrics.values() if abs(value) > 1e300]


def test_a_run_names_what_it_was_made_with(tracked):
    root, client, _ = tracked
    run = children(client)[GOOD.id, 2]
    about = {
        "algorithm": "fomaml",
        "cell": GOOD.id,
        "role": "published",
        "seed": "2",
        "meta_iterations": "30",
    }
    settings = {"meta_step_size": "0.01", "network.hidden": "[8]", "step_size.standard.own": "0.02"}
    assert run.data.params.items() >= {**about, **settings}.items()
    assert run.info.run_name == f"fomaml {GOOD.id} seed 2"
    header = artifacts.read(Paths(root).trained(GOOD, "2-2"))[1]
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


def test_theta_is_the_runs_slice_of_the_block(tracked, tmp_path):
    root, client, _ = tracked
    for (cell, seed), run in children(client).items():
        file = client.download_artifacts(run.info.run_id, "theta.safetensors", str(tmp_path))
        arrays, header = artifacts.read(file)
        job = next((c, b) for c, b in JOBS if c.id == cell and seed in plans.seeds_of(b))
        theta = artifacts.read(Paths(root).trained(*job))[0]["theta"]
        np.testing.assert_array_equal(arrays["theta"], theta[[plans.seeds_of(job[1]).index(seed)]])
        assert (
            header["kind"] == "train" and header["seeds"] == f"{seed}-{seed}"
        )  # what `metabench predict` reads


def test_the_studys_run_holds_tables_figures_settings_banks_and_all_runs(tracked, tmp_path):
    root, client, _ = tracked
    run = parent(client)
    assert {r.data.tags["mlflow.parentRunId"] for r in children(client).values()} == {
        run.info.run_id
    }
    got = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    for name in [
        *(f"tables/{table}" for table in tables.NAMES),
        "figures/curve.svg",
        "provenance.json",
    ]:
        assert (got / name).read_bytes() == (root / name).read_bytes()
    assert config.parse(json.loads((got / "config.json").read_text())) == STUDY
    banks = {d.dataset.name: d for d in run.inputs.dataset_inputs}
    assert set(banks) == {"tiny test-bank", "tiny validation-bank"}
    assert banks["tiny test-bank"].tags[0].value == "test"
    assert json.loads(banks["tiny test-bank"].dataset.profile) == {"num_rows": 6}
    table = np.loadtxt(got / "banks" / "test-bank.csv", delimiter=",", skiprows=1)
    assert len(table) == 6
    assert (
        (table[:, 1] >= STUDY.tasks.amplitude[0]) & (table[:, 1] < STUDY.tasks.amplitude[1])
    ).all()


def test_the_studys_headline_is_that_of_the_leaderboard(tracked):
    root, client, _ = tracked
    logged = logged_points(client, parent(client))
    leaderboard = frames.read(root / "tables", "leaderboard.csv")
    rows = leaderboard[leaderboard["role"].isin(["published", "baseline"])]
    assert len(rows)
    for row in rows.to_dict("records"):
        cell = "" if row["cell"] == "-" else f" {row['cell']}"
        for name in contents.HEADLINE:
            value = logged.get(
                (f"{row['protocol']}/{row['step']}/{row['algorithm']}{cell}/{name}", 0)
            )
            assert (
                value == pytest.approx(row[name], rel=1e-8)
                if isfinite(row[name])
                else value is None
            )


def test_tracking_twice_adds_nothing(folder):
    root = folder / FINISHED
    track(root)
    client = MlflowClient(store.uri_of(root))
    before, text = ids(client), store.study_marker(root, store.store_name(root, "tiny")).read_text()
    track(root)
    assert ids(client) == before
    assert len(before) == RUNS + 1
    assert store.study_marker(root, store.store_name(root, "tiny")).read_text() == text
    assert_numbers_are_those_of_the_tables(client, root)


def test_only_a_changed_run_is_replaced_a_lost_one_comes_back_and_a_foreign_one_goes(folder):
    root = folder / FINISHED
    track(root)
    client = MlflowClient(store.uri_of(root))
    before = {key: r.info.run_id for key, r in children(client).items()}
    path = Paths(root).evaluated(GOOD, "0-1")
    arrays, header = artifacts.read(path)
    arrays["test/standard/own"][:, :, 1] *= 2  # of the block's second seed
    artifacts.write(path, arrays, header)
    run("tables", "--study", json.dumps(CONTENT), "--root", root)
    client.delete_run(before[GOOD.id, 2])  # as somebody might in MLflow's pages
    experiment = client.get_experiment_by_name("tiny").experiment_id
    client.create_run(
        experiment, tags=mirror._run_tags(("fomaml", "00000000", 0)), run_name="of an older grid"
    )
    name = store.store_name(root, "tiny")
    run(*cell_command(root, GOOD, "0-1", name))
    run(*study_command(root, name))
    after = {key: r.info.run_id for key, r in children(client).items()}
    assert set(after) == set(before)
    assert {key for key in after if after[key] != before[key]} == {(GOOD.id, 1), (GOOD.id, 2)}
    assert_numbers_are_those_of_the_tables(client, root)
    assert {r.data.tags["mlflow.parentRunId"] for r in children(client).values()} == {
        parent(client).info.run_id
    }


def test_a_job_killed_half_way_leaves_no_second_run_behind(folder, monkeypatch):
    root = folder / FINISHED
    name, write = store.store_name(root, "tiny"), mirror.Mirror._write_files

    def killed(self, run_id, files):
        if "theta.safetensors" in files and len(children(self.client)) == 2:
            raise KeyboardInterrupt
        write(self, run_id, files)

    monkeypatch.setattr(mirror.Mirror, "_write_files", killed)
    with pytest.raises(AssertionError):  # click turns the interrupt into exit code 1
        run(*cell_command(root, GOOD, "0-1", name))
    client = MlflowClient(store.uri_of(root))
    assert sorted(r.info.status for r in children(client).values()) == ["FINISHED", "RUNNING"]
    monkeypatch.undo()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    track(root)
    assert len(children(client)) == RUNS
    assert {r.info.status for r in children(client).values()} == {"FINISHED"}
    assert all(client.list_artifacts(r.info.run_id) for r in children(client).values())
    assert_numbers_are_those_of_the_tables(client, root)


def test_looking_for_the_store_leaves_no_trace_and_is_stable(folder, monkeypatch):
    root = folder / FINISHED
    before = sorted(folder.rglob("*"))
    names = {store.store_name(root, "tiny") for _ in range(2)}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/nowhere/else.db")
    names.add(store.store_name(root, "tiny"))
    assert len(names) == 2
    assert sorted(folder.rglob("*")) == before


def test_a_changed_uri_is_another_store_and_back_again_is_the_first(folder, monkeypatch):
    root = folder / FINISHED
    run(*cell_command(root, GOOD, "2-2", first := store.store_name(root, "tiny")))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/other.db")
    assert store.store_name(root, "tiny") != first
    with pytest.raises(AssertionError, match="MLFLOW_TRACKING_URI now means"):
        run(*cell_command(root, GOOD, "2-2", first))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert store.store_name(root, "tiny") == first


@pytest.mark.parametrize("loss", ["experiment", "artifacts"])
def test_a_deleted_experiment_or_artifact_folder_is_noticed_and_rebuilt(folder, loss):
    root = folder / FINISHED
    first = store.store_name(root, "tiny")
    run(*cell_command(root, GOOD, "0-1", first))
    client = MlflowClient(store.uri_of(root))
    if loss == "experiment":
        client.delete_experiment(client.get_experiment_by_name("tiny").experiment_id)
    else:
        shutil.rmtree(root / "mlartifacts")
    assert store.store_name(root, "tiny") == first.replace("-1", "-2")
    track(root)
    assert store.store_name(root, "tiny") == first.replace("-1", "-2")
    assert_numbers_are_those_of_the_tables(client, root)
    assert client.list_artifacts(children(client)[GOOD.id, 0].info.run_id)


@pytest.mark.slow
def test_a_deleted_store_is_noticed_and_two_writers_rebuild_it_without_colliding(
    folder, monkeypatch
):
    monkeypatch.chdir(folder)
    root = Path(FINISHED)
    (root / "mlflow.db").unlink()
    for name in ("54974780-9/fomaml", "unrelated"):
        (root / "track" / name).mkdir(parents=True)  # without a marker: no generation
    first = store.store_name(root, "tiny")
    assert first.endswith("-1")
    store.write_marker(
        store.marker(root, first, GOOD, "0-1"), {}, {"runs": {}}
    )  # as if the store had been there
    second = store.store_name(root, "tiny")
    assert second == first.replace("-1", "-2")
    writers = [
        elsewhere(cell_command(root, GOOD, block, second), folder) for block in ("0-1", "2-2")
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert store.store_name(root, "tiny") == second
    client = MlflowClient(f"sqlite:///{root.absolute()}/mlflow.db")
    assert set(children(client)) == {(GOOD.id, seed) for seed in range(3)}
    assert parent(client).info.status == "RUNNING"
    Path("results/tiny/mlflow.db").unlink()
    assert store.store_name(root, "tiny") == first.replace("-1", "-3")


def test_a_moved_results_folder_is_noticed(folder):
    link = folder.with_name("link")  # which keeps the URI while the folder moves
    link.symlink_to(folder)
    root = link / FINISHED
    run(*cell_command(root, GOOD, "2-2", name := store.store_name(root, "tiny")))
    assert store.store_name(root, "tiny") == name
    link.unlink()
    link.symlink_to(folder.rename(folder.with_name("moved")))
    assert store.store_name(root, "tiny") == name.replace("-1", "-2")


@pytest.mark.parametrize(
    "uri", ["postgresql://me:secret@db/flux", "./mlruns", "http://me:secret@127.0.0.1:9"]
)
def test_a_store_that_cannot_be_asked_is_the_newest_known(folder, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    root = folder / FINISHED
    first = store.store_name(root, "tiny")
    store.write_marker(store.marker(root, first.replace("-1", "-4"), GOOD, "0-1"), {}, {})
    assert first.endswith("-1")
    assert store.store_name(root, "tiny") == first.replace("-1", "-4")
    assert "secret" not in store.shown(uri) + store.ui_line(uri) or uri.startswith("postgresql")


@pytest.mark.parametrize(
    ("trouble", "said"),
    [("rubbish", "delete it and run again"), ("locked", "another program"), ("folder", "mlruns")],
)
def test_a_store_that_cannot_be_written_is_one_clear_line(folder, monkeypatch, trouble, said):
    root = folder / FINISHED
    database = root / "mlflow.db"
    if trouble == "rubbish":
        database.write_text("rubbish" * 1000)
    elif trouble == "locked":
        held = sqlite3.connect(database)
        held.execute("BEGIN EXCLUSIVE")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{folder}/mlruns")
    name = store.store_name(root, "tiny")
    result = CliRunner().invoke(main, [str(a) for a in cell_command(root, GOOD, "2-2", name)])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("metabench: cannot write to the MLflow store")
    assert said in line
    assert not store.marker(root, name, GOOD, "2-2").exists()


def test_a_long_curve_is_thinned_evenly_and_keeps_its_ends():
    rows = contents.pd.DataFrame({"update": range(1001), "mean": np.arange(1001.0)})
    steps = [point.step for point in contents._curve("x", rows, "update", "mean")]
    assert (steps[0], steps[-1], len(steps) <= contents.CURVE) == (0, 1000, True)
    assert set(np.diff(steps)[:-1]) == {6}
    assert len(contents._curve("x", rows[:200], "update", "mean")) == 200


@pytest.mark.slow
def test_the_printed_line_shows_the_study_and_a_server_is_written_like_a_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    root = Path(FINISHED)
    name = store.store_name(root, "tiny")
    run(*cell_command(root, GOOD, "2-2", name))
    line = store.ui_line(store.uri_of(root))
    assert line.endswith("mlflow ui --backend-store-uri sqlite:///results/tiny/mlflow.db")
    assert shutil.which(line.split()[0])  # runs as printed, in a shell that is not activated too
    with serving(line, folder) as (address, _):
        client = MlflowClient(address)
        run_id = children(client)[GOOD.id, 2].info.run_id
        with urllib.request.urlopen(
            f"{address}/get-artifact?path=theta.safetensors&run_uuid={run_id}"
        ) as answer:
            assert (
                answer.read()
                == Path(
                    f"results/tiny/mlartifacts/{run_id}/artifacts/theta.safetensors"
                ).read_bytes()
            )
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        run(*cell_command(root, GOOD, "2-2", served := store.store_name(root, "tiny")))
        assert ids(client) == sorted(
            [run_id, parent(client).info.run_id]
        )  # the same store: nothing doubles
        assert store.store_name(root, "tiny") == served
        client.delete_experiment(client.get_experiment_by_name("tiny").experiment_id)
        assert store.store_name(root, "tiny") == served.replace("-1", "-2")
        assert f"open {address}" in track(root)
        assert_numbers_are_those_of_the_tables(client, root)
        theta = client.download_artifacts(
            children(client)[GOOD.id, 2].info.run_id, "theta.safetensors", str(folder)
        )
        assert artifacts.read(theta)[1]["seeds"] == "2-2"
    assert store.store_name(root, "tiny") == served.replace("-1", "-2")  # nobody answers
    result = CliRunner().invoke(
        main, [str(a) for a in study_command(root, served.replace("-1", "-2"))]
    )
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "it does not answer" in result.stderr


def test_cells_seeds_and_markers_that_do_not_match_are_refused_before_the_store_is_opened(folder):
    root = folder / FINISHED
    name = store.store_name(root, "tiny")
    before = sorted(folder.rglob("*"))
    result = CliRunner().invoke(
        main, [str(a) for a in [*cell_command(root, GOOD, "0-1", name), "--seeds", "2-2"]]
    )
    assert result.exit_code == 2
    assert "must be given equally often, got 1, 2 and 1 times" in result.stderr
    assert sorted(folder.rglob("*")) == before
