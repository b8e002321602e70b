"""Real Snakemake runs of the smoke study."""

import os
import random
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pipeline import BIN, copy, digests, environment, snakemake
from small import ROOT
from soak import COMPARED, KINDS, disturbed, same, start

from metabench.learning import engine
from metabench.records import records
from metabench.study import config, plans

TRACKING = {"track_fomaml_0", "track_joint_0", "track_random_0", "track_reptile_0", "track_study"}

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def jobs(answer: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return how many jobs of each rule a dry run lists."""
    assert answer.returncode == 0, answer.stdout + answer.stderr
    counts = {
        name: int(count)
        for name, count in re.findall(r"^(\w+) +(\d+)$", answer.stdout, re.MULTILINE)
    }
    return {name: count for name, count in counts.items() if name not in ("all", "total")}


def scheduled(folder: Path, **changes: object) -> dict[str, int]:
    """Return how many jobs of each rule would run if keys of the smoke study were replaced."""
    path = folder / "config" / "changed.yaml"
    path.write_text(
        yaml.safe_dump(
            {**yaml.safe_load((folder / "config" / "smoke.yaml").read_text()), **changes}
        )
    )
    return jobs(snakemake(folder, "--cores", "1", "--dry-run", config="config/changed.yaml"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The smoke study, run for real in a folder whose name has a space."""
    folder = copy(tmp_path_factory.mktemp("a study"))
    start = time.monotonic()
    answer = snakemake(folder, "--cores", "2")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    print(f"smoke study: {time.monotonic() - start:.0f} s")
    yield folder


def test_the_smoke_study_leaves_every_table_and_figure(study: Path) -> None:
    from metabench.analysis import tables
    from metabench.records import manifests

    root = study / "results" / "smoke"
    assert {path.name for path in (root / "tables").iterdir()} == {*tables.NAMES, manifests.NAME}
    svg, png = (
        {path.stem for path in (root / "figures").glob(f"*.{kind}")} for kind in ("svg", "png")
    )
    assert svg == png and "showcase_fomaml_robustness" in svg and len(svg) > 10
    assert (root / "provenance.json").exists()


def test_a_second_call_has_nothing_to_do(study: Path) -> None:
    assert (
        "Nothing to be done" in (answer := snakemake(study, "--cores", "2")).stdout + answer.stderr
    )


def with_blocks_of_two(folder: Path) -> Path:
    """Return a copy of the workflow whose smoke study has two blocks of seeds instead of one."""
    path = copy(folder) / "config" / "smoke.yaml"
    path.write_text(path.read_text().replace("seed_block: 3", "seed_block: 2"))
    return folder


def test_the_bytes_are_the_same_with_one_core_another_folder_and_other_seed_blocks(
    study: Path, tmp_path: Path
) -> None:
    other = with_blocks_of_two(tmp_path)
    answer = snakemake(other, "--cores", "1", "tables", "figures")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert digests(other, "tables", "figures") == digests(study, "tables", "figures")
    assert runs(other) == runs(study)


def test_the_bytes_of_torch_are_the_same_with_one_core_and_other_seed_blocks_and_not_used_under_another_engine(
    tmp_path: Path, choose_engine: Callable[[str], None]
) -> None:
    compiled = engine.library() is not None
    choose_engine("torch")  # here too: records say who made them
    folders = copy(tmp_path / "two"), with_blocks_of_two(tmp_path / "one")
    for cores, folder in zip("21", folders, strict=True):
        answer = snakemake(folder, "--cores", cores, "tables", METABENCH_ENGINE="torch")
        assert answer.returncode == 0 and "engine: torch" in answer.stdout, (
            answer.stdout + answer.stderr
        )
    two, one = folders
    assert digests(one, "tables") == digests(two, "tables")
    assert runs(one) == runs(two)
    again = snakemake(two, "--cores", "1", "--dry-run", "tables", METABENCH_ENGINE="")
    assert ("was made from another engine" in again.stderr) is compiled
    assert jobs(again).get("train") == (6 if compiled else None)


def runs(folder: Path) -> dict[tuple[str, int, str], str]:
    """Return the digest of each array of each run's records, theta among them: by cell, seed and
    name.
    """
    study, found = config.load(folder / "config" / "smoke.yaml"), {}
    for cell in plans.cells(study):
        record = records.read_cell(records.Paths(folder / "results" / "smoke"), study, cell)
        arrays = {**record.evaluation, "theta": record.theta, "diverged_at": record.diverged_at}
        arrays["validation"] = record.validation_loss.T
        for name, array in arrays.items():
            axis = records._run_axis(name) if name in record.evaluation else 0
            for run, seed in enumerate(record.seeds):
                found[cell.id, int(seed), name] = sha256(
                    np.ascontiguousarray(array.take(run, axis))
                ).hexdigest()
    return found


def test_more_seeds_and_more_cells_leave_finished_jobs_alone(study: Path) -> None:
    assert (
        scheduled(study, seeds=5)["train"] == 6
    )  # seeds 3 and 4 of six cells; the block 0-2 stays
    cells = yaml.safe_load((study / "config" / "smoke.yaml").read_text())["cells"]
    cells[1]["meta_step_size"] = [0.1, 0.2]
    cells[1]["published"] = {"meta_step_size": 0.1}
    jobs = scheduled(study, cells=cells)
    assert jobs["train"] == 1 and jobs["evaluate"] == 1 and jobs["tables"] == 1


def test_deleted_files_come_back_with_the_same_bytes(study: Path, tmp_path: Path) -> None:
    before = digests(study, *COMPARED)
    root = study / "results" / "smoke"
    for path in ("tables/runs.csv", "figures/comparisons.png"):
        (root / path).unlink()
    next((root / "train" / "reptile").rglob("*.safetensors")).unlink()
    answer = snakemake(study, "--cores", "2")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert digests(study, *COMPARED) == before
    assert "Nothing to be done" in (again := snakemake(study, "--cores", "2")).stdout + again.stderr


def edited(folder: Path) -> dict[str, str]:
    """Return an environment whose package, in a folder, has another constant in Reptile's file."""
    shutil.copytree(
        ROOT / "metabench", folder / "metabench", ignore=shutil.ignore_patterns("__pycache__")
    )
    source = folder / "metabench" / "algorithms" / "reptile.py"
    source.write_text(source.read_text() + "\nCONSTANT = 1\n")
    return {**environment(), "PYTHONPATH": str(folder)}


def test_editing_an_algorithm_reruns_its_cells_and_what_follows_and_nothing_else(
    study: Path, tmp_path: Path
) -> None:
    command = [
        str(BIN / "snakemake"),
        "--configfile",
        "config/smoke.yaml",
        "--cores",
        "1",
        "--dry-run",
    ]
    answer = subprocess.run(
        command, cwd=study, capture_output=True, text=True, env=edited(tmp_path), check=True
    )
    for stage in ("train", "evaluate", "track/[^/]+"):
        found = set(re.findall(rf"output: results/smoke/{stage}/(\w+)/", answer.stdout))
        assert found == {"reptile"}, stage
    assert jobs(answer) == {
        "train": 2,
        "evaluate": 2,
        "tables": 1,
        "figures": 1,
        "track_reptile_0": 1,
        "track_study": 1,
    }


def test_a_file_of_ones_own_enters_grid_tables_figures_report_and_mlflow(
    study: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(study, tmp_path / "own")
    shutil.copytree(ROOT / "examples", folder / "examples")
    changed = yaml.safe_load((folder / "config" / "smoke.yaml").read_text())
    prox = {
        "meta_batch_size": 2,
        "shots": 5,
        "inner_steps": 3,
        "inner_step_size": 0.02,
        "meta_step_size": [0.1, 0.5],
    }
    published = {"meta_step_size": 0.5}
    changed["cells"].append(
        {"algorithm": "examples/prox.py", "meta_iterations": 200, **prox, "published": published}
    )
    (folder / "config" / "own.yaml").write_text(yaml.safe_dump(changed))
    answer = snakemake(folder, "--cores", "2", config="config/own.yaml")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    root = folder / "results" / "smoke"
    board = pd.read_csv(root / "tables" / "leaderboard.csv")
    assert set(board.loc[board["algorithm"] == "prox", "step"]) == {"own", "common"}
    assert len(board.loc[board["algorithm"] == "prox", "cell"].unique()) == 2
    compared = pd.read_csv(root / "tables" / "comparisons.csv")
    assert ((compared["algorithm_a"] == "fomaml") & (compared["algorithm_b"] == "prox")).any()
    assert (root / "figures" / "showcase_prox_robustness.svg").exists()
    assert len(list((root / "track").rglob("prox/*/*.json"))) == 2
    report = snakemake(folder, "--report", "results/smoke/report.zip", config="config/own.yaml")
    assert report.returncode == 0, report.stderr
    assert any("prox" in name for name in zipfile.ZipFile(root / "report.zip").namelist())
    # What Snakemake sees of an edit: its cells and what follows.
    path = folder / "examples" / "prox.py"
    path.write_text(path.read_text().replace("LAMBDA = 0.5", "LAMBDA = 0.25"))
    again = jobs(snakemake(folder, "--cores", "1", "--dry-run", config="config/own.yaml"))
    assert again["train"] == again["evaluate"] == 2 and "track_fomaml_0" not in again


def test_the_report_of_a_study_holds_the_published_numbers_that_it_covers(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    study = yaml.safe_load((folder / "config" / "openai.yaml").read_text())
    shape = {"seeds": 2, "seed_block": 2, "network": {"hidden": [8]}, "evaluation": {"tasks": 6}}
    short = {"validation": {"tasks": 4, "interval": 10}, "statistics": {"resamples": 50}}
    cells = [{**cell, "meta_iterations": 20} for cell in study["cells"]]
    (folder / "config" / "openai.yaml").write_text(
        yaml.safe_dump({**study, **shape, **short, "cells": cells})
    )
    answer = snakemake(folder, "--cores", "2", config="config/openai.yaml")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    root = folder / "results" / "openai"
    found = pd.read_csv(root / "literature" / "literature.csv")
    assert set(found["study"]) == {"openai"} and set(found["published"]) == {0.048, 0.058}
    board = pd.read_csv(root / "tables" / "leaderboard.csv")
    assert set(found["ours"]) <= set(board["mean"])
    report = snakemake(folder, "--report", "results/openai/report.zip", config="config/openai.yaml")
    assert report.returncode == 0, report.stderr
    names = zipfile.ZipFile(root / "report.zip").namelist()
    assert {"literature.csv", "literature.svg"} <= {Path(name).name for name in names}
    (root / "literature" / "literature.csv").write_text("other\n")
    assert jobs(snakemake(folder, "--cores", "1", "--dry-run", config="config/openai.yaml")) == {
        "literature": 1
    }


def test_touched_files_more_cores_and_another_readme_rerun_nothing(study: Path) -> None:
    files = [path for path in study.rglob("*") if path.is_file() and ".snakemake" not in path.parts]
    random.Random(0).shuffle(files)
    for n, path in enumerate(files):
        os.utime(path, (n, time.time() - n))
    (study / "README.md").write_text("another")
    answer = snakemake(study, "--cores", "3", "--dry-run")
    assert "Nothing to be done" in answer.stdout + answer.stderr


def test_a_clone_with_copied_results_reruns_nothing_but_the_tracking_of_a_store_that_moved(
    study: Path, tmp_path: Path
) -> None:
    """MLflow writes the absolute path of its artifacts into the store: see docs/tracking.md."""
    for with_metadata in (True, False):
        folder = copy(tmp_path / str(with_metadata))
        shutil.copytree(
            study / "results", folder / "results", copy_function=shutil.copy
        )  # with new times
        if with_metadata:
            shutil.copytree(study / ".snakemake", folder / ".snakemake")
        answer = snakemake(folder, "--cores", "1", "--dry-run")
        assert answer.returncode == 0 and set(jobs(answer)) == TRACKING, with_metadata


def test_results_copied_without_metadata_are_used_where_valid_and_made_again_where_stale(
    study: Path, tmp_path: Path
) -> None:
    folder = copy(tmp_path / "copied")
    shutil.copytree(
        study / "results", folder / "results", ignore=shutil.ignore_patterns("mlflow.db")
    )
    command = [
        str(BIN / "snakemake"),
        "--configfile",
        "config/smoke.yaml",
        "--cores",
        "1",
        "--dry-run",
        "figures",
    ]
    answer = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=edited(tmp_path), check=True
    )
    assert jobs(answer) == {"train": 2, "evaluate": 2, "tables": 1, "figures": 1}
    assert "files are made again" in answer.stderr and "was made from another code" in answer.stderr
    foreign = next((folder / "results/smoke/evaluate/fomaml").rglob("*.safetensors"))
    shutil.copy(next((study / "results/smoke/evaluate/joint").rglob("*.safetensors")), foreign)
    assert jobs(snakemake(folder, "--cores", "1", "--dry-run", "figures")) == {
        "evaluate": 1,
        "tables": 1,
        "figures": 1,
    }
    runs = folder / "results" / "smoke" / "tables" / "runs.csv"
    shutil.copy(
        study
        / "results"
        / "smoke"
        / "evaluate"
        / foreign.relative_to(folder / "results/smoke/evaluate"),
        foreign,
    )
    runs.write_text(runs.read_text().replace("ok", "ko"))
    assert jobs(snakemake(folder, "--cores", "1", "--dry-run", "figures")) == {
        "tables": 1,
        "figures": 1,
    }


@pytest.mark.parametrize(
    "pattern",
    [
        "train/random/*/*.safetensors",
        "evaluate/joint/*/*.safetensors",
        "baselines.safetensors",
        "tables/tasks.parquet",
        "tables/manifest.json",
        "provenance.json",
        "figures/comparisons.png",
        "figures/manifest.json",
        "track/*/reptile/*/*.json",
        "track/*/study.json",
    ],
)
def test_any_durable_file_that_is_deleted_is_made_again(study: Path, pattern: str) -> None:
    path = next((study / "results" / "smoke").glob(pattern))
    kept = path.read_bytes()
    path.unlink()
    answer = snakemake(study, "--cores", "1", "--dry-run")
    path.write_bytes(kept)
    made = ", ".join(re.findall(r"^    output: (.*)$", answer.stdout, re.MULTILINE))
    assert str(path.relative_to(study)) in made.split(", ")


def test_the_report_holds_every_figure_and_table(study: Path) -> None:
    answer = snakemake(study, "--report", "results/smoke/report.zip")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    with zipfile.ZipFile(study / "results" / "smoke" / "report.zip") as archive:
        names = " ".join(archive.namelist())
    for path in [
        *(study / "results/smoke/figures").glob("*.svg"),
        *(study / "results/smoke/tables").glob("*.csv"),
    ]:
        assert path.name in names


def test_a_mistake_in_the_study_file_is_one_line_exit_code_2_and_writes_nothing(
    tmp_path: Path,
) -> None:
    folder = copy(tmp_path)
    path = folder / "config" / "smoke.yaml"
    path.write_text(path.read_text().replace("algorithm: joint", "algorithm: jiont"))
    answer = snakemake(folder, "--cores", "1")
    assert answer.returncode == 2
    lines = [line for line in answer.stderr.splitlines() if line.startswith("metabench: ")]
    assert (
        len(lines) == 1 and "unknown algorithm 'jiont'; choose from anil, cavia, fomaml" in lines[0]
    )
    assert "Traceback" not in answer.stderr and not (folder / "results").exists()


def test_a_killed_study_goes_on_to_the_same_bytes(study: Path, tmp_path: Path) -> None:
    """One kill of each kind at a random moment, with training jobs in a shuffled order: see
    tests/soak.py.
    """
    folder = copy(tmp_path)
    kills = list(disturbed(folder, 3, iter(KINDS)))
    assert kills
    same(folder, study)


def test_a_killed_snakemake_needs_no_unlock_and_loses_no_finished_work(
    study: Path, tmp_path: Path
) -> None:
    folder = copy(tmp_path)
    process = start(folder, random.Random(0))
    deadline = time.monotonic() + 60
    while (
        not (done := list(folder.glob("results/smoke/train/*/*/[!.]*.safetensors")))
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    process.kill()  # Snakemake alone: its jobs live on
    process.wait()
    checkpoint = (
        folder / "results/smoke/checkpoints" / done[0].relative_to(folder / "results/smoke/train")
    )
    written = checkpoint.stat().st_mtime_ns
    answer = snakemake(folder, "--cores", "2", "tables")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert checkpoint.stat().st_mtime_ns == written, "it was trained again"
    assert digests(folder, "train", "evaluate", "tables") == digests(
        study, "train", "evaluate", "tables"
    )
