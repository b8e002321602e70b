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
from typing import Any

import numpy as np
import pandas as pd
import permissions
import pytest
import small
import yaml
from pipeline import copy, digests, snakemake, snakemake_by_itself
from small import ROOT
from soak import COMPARED, KINDS, disturbed, same, start

from metabench.analysis import banks
from metabench.learning import engine
from metabench.records import arrays
from metabench.study import config

TRACKING = {"track_cells_0", "track_study"}

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def jobs(answer: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return how many jobs of each rule a dry run lists."""
    assert answer.returncode == 0, answer.stdout + answer.stderr
    counts = {
        name: int(count)
        for name, count in re.findall(r"^(\w+) +(\d+)$", answer.stdout, re.MULTILINE)
    }
    return {name: count for name, count in counts.items() if name not in ("all", "total")}


def of_smoke(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's smoke study."""
    return config.read(folder / "config" / "smoke.yaml")


def scheduled(folder: Path, **changes: object) -> dict[str, int]:
    """Return how many jobs of each rule would run if keys of the smoke study were replaced."""
    path = folder / "config" / "changed.yaml"
    path.write_text(yaml.safe_dump(of_smoke(folder) | changes, sort_keys=False))
    return jobs(dry(folder, config="config/changed.yaml"))


def dry(folder: Path, *targets: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Ask Snakemake what it would do."""
    return snakemake(folder, *targets, "--cores", "1", "--dry-run", **options)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The smoke study, run for real in a folder whose name has a space."""
    folder = copy(tmp_path_factory.mktemp("a study"))
    start = time.monotonic()
    answer = snakemake_by_itself(folder, "--cores", "2")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    print(f"smoke study: {time.monotonic() - start:.0f} s")
    yield folder


def test_the_smoke_study_leaves_every_table_and_figure(study: Path) -> None:
    from metabench.analysis import tables
    from metabench.records import manifests
    from metabench.study import config

    root = study / "results" / "smoke"
    names = tables.names(config.load(study / "config" / "smoke.yaml"))
    assert {path.name for path in (root / "tables").iterdir()} == {*names, manifests.NAME}
    svg, png = (
        {path.stem for path in (root / "figures").glob(f"*.{kind}")} for kind in ("svg", "png")
    )
    assert svg == png and "showcase_robustness" in svg and len(svg) > 10
    assert (root / "provenance.json").exists() and (root / "report.html").exists()


def nothing(answer: subprocess.CompletedProcess[str]) -> bool:
    """Return whether Snakemake, or the study, found that there is nothing to do."""
    assert answer.returncode == 0, answer.stdout + answer.stderr
    output = (answer.stdout + answer.stderr).lower()
    return "nothing to be done" in output or "nothing to do;" in output


def test_a_second_call_has_nothing_to_do(study: Path) -> None:
    assert nothing(snakemake(study, "--cores", "2"))


def with_blocks_of_two(folder: Path) -> Path:
    """Return a copy of the workflow whose smoke study has two blocks of seeds instead of one."""
    path = copy(folder) / "config" / "smoke.yaml"
    path.write_text(path.read_text().replace("seed_block: 3", "seed_block: 2"))
    return folder


@pytest.mark.parametrize("name", engine.NAMES)
def test_the_bytes_are_the_same_with_one_core_another_folder_and_other_seed_blocks(
    tmp_path: Path, choose_engine: Callable[[str], None], name: str
) -> None:
    compiled = engine.library() is not None
    if name == "fused" and not compiled:
        pytest.skip("no kernel was compiled here")
    choose_engine(name)  # here too: records say who made them
    two, one = folders = copy(tmp_path / "two"), with_blocks_of_two(tmp_path / "one")
    for cores, folder in zip("21", folders, strict=True):
        shorten(folder)
        answer = snakemake(folder, "--cores", cores, "tables", METABENCH_ENGINE=name)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        logs = list((folder / "results/smoke/logs/train").rglob("*.log"))
        assert logs and all(f"engine: {name}" in log.read_text() for log in logs)
    assert digests(one, "tables") == digests(two, "tables"), "of which figures are drawn"
    assert runs(one) == runs(two)
    (another,) = set(engine.NAMES) - {name}
    if compiled:
        again = dry(two, "tables", METABENCH_ENGINE=another)
        assert "was produced with a different engine" in again.stderr and jobs(again)["train"] == 2


def shorten(folder: Path) -> None:
    """Leave two cells and one protocol of a folder's smoke study, trained for a moment."""
    study = of_smoke(folder)
    _, reptile, *_, random = study["cells"]
    cells = [reptile | {"meta_iterations": 60}, random]
    protocols = {"robustness": study["protocols"]["robustness"]}
    content = study | {"cells": cells, "protocols": protocols}
    (folder / "config" / "smoke.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def runs(folder: Path) -> dict[tuple[str, int, str], str]:
    """Return the digest of each array of each run, theta among them: by cell, seed and name."""
    started, found = small.running(of_smoke(folder), folder / "results" / "smoke"), {}
    for cell in started.study.cells:
        record = started.reader.cell(cell)
        of_run = {"theta": record.theta, "diverged_at": record.diverged_at}
        of_run["validation"] = record.validation_loss.T
        axes = dict.fromkeys(of_run, 0)
        for group in started.study.groups:
            settings = started.study.evaluate_settings(cell, group)
            for name, (array, _) in arrays.evaluation(settings, len(record.seeds)).items():
                of_run[name], axes[name] = record.evaluation[name], array.axes.index("run")
        for name, values in of_run.items():
            for run, seed in enumerate(record.seeds.tolist()):
                part = np.ascontiguousarray(values.take(run, axes[name]))
                found[cell.title, seed, name] = sha256(part).hexdigest()
    return found


def test_more_seeds_cells_and_protocols_leave_finished_jobs_alone(study: Path) -> None:
    more = scheduled(study, seeds=5)  # seeds 3 and 4 of six cells; the block 0-2 stays
    assert (more["train"], more["evaluate"], "baselines" in more) == (6, 12, False)
    cells = of_smoke(study)["cells"]
    cells[1] |= {"meta_step_size": [0.1, 0.2], "published": {"meta_step_size": 0.1}}
    larger = scheduled(study, cells=cells)
    assert (larger["train"], larger["evaluate"], larger["tables"]) == (1, 2, 1)
    near = {"shots": [3, 4], "support": [-1.0, 1.0], "updates": 2}
    near["gaussian_process_length_scale"] = 1.5
    wider = scheduled(study, protocols=of_smoke(study)["protocols"] | {"near": near})
    assert (wider.get("train"), wider["evaluate"], wider["baselines"]) == (None, 6, 1)


def test_a_changed_key_reruns_what_depends_on_it_and_nothing_else(study: Path) -> None:
    protocols = of_smoke(study)["protocols"]
    protocols["standard"]["updates"] = 31
    one_group = scheduled(study, protocols=protocols)
    assert (one_group.get("train"), one_group["evaluate"], one_group["baselines"]) == (None, 6, 1)
    assert set(one_group) > TRACKING
    statistics = scheduled(study, statistics={"resamples": 100})
    assert set(statistics) == {"tables", "figures", "report", "track_study"}
    everything = scheduled(study, validation={"tasks": 20, "interval": 100})
    assert (everything["train"], everything["evaluate"], "baselines" in everything) == (
        6,
        12,
        False,
    )


def test_deleted_files_come_back_with_the_same_bytes(study: Path) -> None:
    before = digests(study, *COMPARED)
    root = study / "results" / "smoke"
    for path in ("tables/runs.csv", "figures/comparisons_standard.png"):
        (root / path).unlink()
    next((root / "train" / "reptile").rglob("*.safetensors")).unlink()
    answer = snakemake(study, "figures", "--cores", "2")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert digests(study, *COMPARED) == before
    assert nothing(snakemake(study, "--cores", "2"))


def edited(folder: Path) -> dict[str, str]:
    """Return the variable that has a package run in which Reptile's file has a constant more."""
    shutil.copytree(
        ROOT / "metabench", folder / "metabench", ignore=shutil.ignore_patterns("__pycache__")
    )
    source = folder / "metabench" / "learning" / "algorithms" / "reptile.py"
    source.write_text(source.read_text() + "\nCONSTANT = 1\n")
    return {"PYTHONPATH": str(folder)}


def test_editing_an_algorithm_reruns_its_cells_and_what_follows_and_nothing_else(
    study: Path, tmp_path: Path
) -> None:
    answer = dry(study, **edited(tmp_path))
    for stage in ("train", "evaluate"):
        found = set(re.findall(rf"output: results/smoke/{stage}/(\w+)/", answer.stdout))
        assert found == {"reptile"}, stage
    assert jobs(answer) == {
        "train": 2,
        "evaluate": 4,
        "tables": 1,
        "figures": 1,
        "report": 1,
        "track_cells_0": 1,
        "track_study": 1,
    }


def test_a_custom_algorithm_enters_grid_tables_figures_report_and_mlflow(
    study: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(study, tmp_path / "own")
    shutil.copytree(ROOT / "examples", folder / "examples")
    prox = {"meta_batch_size": 2, "shots": 5, "inner_steps": 3, "inner_step_size": 0.02}
    prox |= {"algorithm": "examples/prox.py", "meta_iterations": 200, "meta_step_size": 0.5}
    prox |= {"strength": [0.5, 1.0], "published": {"strength": 0.5}}
    changed = of_smoke(folder)
    changed["cells"].append(prox)
    (folder / "config" / "own.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    answer = snakemake(folder, "--cores", "2", config="config/own.yaml")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    root = folder / "results" / "smoke"
    board = pd.read_csv(root / "tables" / "leaderboard.csv")
    rows = board[board["algorithm"] == "prox"]
    assert set(rows["step"]) == {"own", "common"} and set(rows["strength"]) == {0.5, 1.0}
    assert len(rows["cell"].unique()) == 2
    compared = pd.read_csv(root / "tables" / "comparisons.csv")
    assert ((compared["algorithm_a"] == "fomaml") & (compared["algorithm_b"] == "prox")).any()
    assert "prox" in set(pd.read_csv(root / "tables" / "showcase.csv")["algorithm"])
    assert len(list((root / "track").rglob("prox/*/*.json"))) == 2
    report = snakemake(folder, "--report", "results/smoke/report.zip", config="config/own.yaml")
    assert report.returncode == 0, report.stderr
    with zipfile.ZipFile(root / "report.zip") as archive:
        tables = [name for name in archive.namelist() if name.endswith("leaderboard.csv")]
        assert tables and all(b"prox" in archive.read(name) for name in tables)
    # What Snakemake makes of an edit: its cells and what follows.
    path = folder / "examples" / "prox.py"
    path.write_text(path.read_text().replace("return h.strength", "return 0.9 * h.strength"))
    again = jobs(dry(folder, config="config/own.yaml"))
    assert (again["train"], again["evaluate"]) == (2, 4)


def test_predictions_of_another_program_enter_the_leaderboard_and_are_scored_again_alone(
    study: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(study, tmp_path / "elsewhere")
    files = {"seeded": "seeded.csv", "unseeded": "unseeded.parquet"}
    content = of_smoke(folder)
    content["cells"] += [{"predictions": file, "name": name} for name, file in files.items()]
    (folder / "config" / "elsewhere.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    banks.export(small.study(content), folder / "bank", 0, ["parquet"])
    zeros = pd.read_parquet(folder / "bank" / "test-query.parquet").assign(prediction=0.0)
    zeros.to_parquet(folder / files["unseeded"])

    def predict(values: list[float]) -> None:
        """Write predictions of one value for each seed."""
        seeds = [zeros.assign(seed=seed, prediction=y) for seed, y in enumerate(values)]
        pd.concat(seeds).to_csv(folder / files["seeded"], index=False)

    def scores() -> pd.DataFrame:
        """Compute the tables; return the score and the number of seeds of each file."""
        ran = snakemake(folder, "tables", "--cores", "2", config="config/elsewhere.yaml")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        board = pd.read_csv(folder / "results" / "smoke" / "tables" / "leaderboard.csv")
        return board[board["protocol"] == "standard"].set_index("algorithm").loc[[*files]]

    def waiting() -> dict[str, int]:
        """Return the jobs that would run."""
        return jobs(dry(folder, "tables", config="config/elsewhere.yaml"))

    predict([0.0, 0.1, 0.2])
    assert waiting() == {"predictions": 2, "tables": 1}
    before = scores()
    assert list(before["seeds"]) == [3, 0] and before.loc["unseeded", "score"] == 1
    predict([0.0, 1.0, 2.0])
    assert waiting() == {"predictions": 1, "tables": 1}
    after = scores()
    assert after.loc["seeded", "score"] > before.loc["seeded", "score"]
    assert after.loc["unseeded"].equals(before.loc["unseeded"])


def test_the_report_of_a_study_holds_the_published_numbers_that_it_covers(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    study = yaml.safe_load((folder / "config" / "openai.yaml").read_text())
    shape = {"seeds": 2, "seed_block": 2, "network": {"hidden": [8]}, "evaluation": {"tasks": 6}}
    short = {"validation": {"tasks": 4, "interval": 10}, "statistics": {"resamples": 50}}
    cells = [{**cell, "meta_iterations": 20} for cell in study["cells"]]
    (folder / "config" / "openai.yaml").write_text(
        yaml.safe_dump({**study, **shape, **short, "cells": cells})
    )
    targets = "figures", "literature"
    answer = snakemake(folder, *targets, "--cores", "2", config="config/openai.yaml")
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
    assert jobs(dry(folder, *targets, config="config/openai.yaml")) == {"literature": 1}


def touch_in_disorder(folder: Path) -> list[Path]:
    """Give every file of a study another time, in no order; return the files."""
    files = [path for path in (folder / "results").rglob("*") if path.is_file()]
    random.Random(0).shuffle(files)
    for n, path in enumerate(files):
        os.utime(path, (n, time.time() - n))
    return files


def listing(folder: Path) -> dict[Path, tuple[int, int, int, str]]:
    """Return time, owner, mode and content of all that is below a study's results."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        stat = path.stat()
        content = sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[path] = (stat.st_mtime_ns, stat.st_uid, stat.st_mode, content)
    return found


def test_touched_files_more_cores_and_a_different_readme_rerun_nothing(study: Path) -> None:
    touch_in_disorder(study)
    (study / "README.md").write_text("another")
    before = listing(study)
    assert nothing(dry(study))
    assert nothing(snakemake_by_itself(study, "--cores", "3"))
    assert listing(study) == before


def test_a_dry_run_of_stale_results_changes_no_file_and_no_time(study: Path) -> None:
    touch_in_disorder(study)
    before = listing(study)
    assert scheduled(study, validation={"tasks": 20, "interval": 100})["train"] == 6
    assert listing(study) == before


def test_a_stage_that_is_forced_brings_what_follows_it_also_where_that_is_missing(
    study: Path, tmp_path: Path
) -> None:
    folder = copy(tmp_path)
    shutil.copytree(study / "results" / "smoke" / "train", folder / "results" / "smoke" / "train")
    forced = dry(folder, "tables", "--forcerun", "train")
    assert jobs(forced) == {"train": 6, "evaluate": 12, "baselines": 2, "tables": 1}


def test_a_stage_that_is_forced_brings_nothing_else_whatever_the_times_of_files(
    study: Path, tmp_path: Path
) -> None:
    folder = copy(tmp_path)
    shutil.copytree(study / "results", folder / "results")
    touch_in_disorder(folder)
    assert jobs(dry(folder, "tables", "--forcerun", "tables")) == {"tables": 1}
    forced = dry(folder, "figures", "--forcerun", "results/smoke/tables/runs.csv")
    assert jobs(forced) == {"tables": 1, "figures": 1}


def test_a_dry_run_works_on_read_only_results_of_another_user_with_times_out_of_order(
    study: Path, tmp_path: Path
) -> None:
    folder = copy(tmp_path)
    for name in ("results", ".snakemake"):
        shutil.copytree(study / name, folder / name, symlinks=True)
    touch_in_disorder(folder)
    tops = [folder / "results", folder / ".snakemake"]
    below = [path for top in tops for path in (top, *top.rglob("*"))]

    def look(
        target: str, files: int, folders: int, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """A dry run by a user other than the owner of the results only looks."""
        for path in below:
            if os.geteuid() == 0:
                os.chown(path, 12345, 12345)
            path.chmod(folders if path.is_dir() else files)
        before = listing(folder)
        line = target, "--cores", "1", "--dry-run"
        answer = snakemake_by_itself(folder, *line, preexec_fn=permissions.bound, **variables)
        assert listing(folder) == before
        return answer

    changed = edited(tmp_path / "edited")
    assert nothing(look("figures", 0o444, 0o555))
    stale = look("figures", 0o444, 0o555, **changed)
    assert stale.returncode == 1 and "Write-protected output files" in stale.stdout
    assert "9 stale files to rebuild: " in stale.stderr and "Traceback" not in stale.stderr
    stale = look("figures", 0o666, 0o777, **changed)
    assert jobs(stale) == {"train": 2, "evaluate": 4, "tables": 1, "figures": 1}


def test_a_clone_with_copied_results_reruns_nothing_but_the_tracking_of_a_store_that_moved(
    study: Path, tmp_path: Path
) -> None:
    """MLflow writes the absolute path of its artifacts into the store: see docs/tracking.md."""
    for with_metadata in (True, False):
        folder = copy(tmp_path / str(with_metadata))
        # Unlike copy2, shutil.copy gives the files new times.
        shutil.copytree(study / "results", folder / "results", copy_function=shutil.copy)
        if with_metadata:
            shutil.copytree(study / ".snakemake", folder / ".snakemake")
        assert set(jobs(dry(folder))) == TRACKING, with_metadata


def test_results_copied_without_metadata_are_used_where_valid_and_rebuilt_where_stale(
    study: Path, tmp_path: Path
) -> None:
    folder = copy(tmp_path / "copied")
    apart = shutil.ignore_patterns("mlflow.db")
    shutil.copytree(study / "results", folder / "results", ignore=apart)
    answer = dry(folder, "figures", **edited(tmp_path))
    assert jobs(answer) == {"train": 2, "evaluate": 4, "tables": 1, "figures": 1}
    assert "stale files to rebuild" in answer.stderr
    assert "was produced with a different code" in answer.stderr
    foreign = next((folder / "results/smoke/evaluate/fomaml").rglob("*.safetensors"))
    mine = foreign.read_bytes()
    shutil.copy(next((study / "results/smoke/evaluate/joint").rglob("*.safetensors")), foreign)
    assert jobs(dry(folder, "figures")) == {"evaluate": 1, "tables": 1, "figures": 1}
    foreign.write_bytes(mine)
    table = folder / "results" / "smoke" / "tables" / "runs.csv"
    table.write_text(table.read_text().replace("ok", "ko"))
    assert jobs(dry(folder, "figures")) == {"tables": 1, "figures": 1}


@pytest.mark.parametrize(
    "pattern",
    [
        "train/random/*/*.safetensors",
        "evaluate/joint/*/robustness/*.safetensors",
        "baselines/standard.safetensors",
        "tables/tasks.parquet",
        "tables/manifest.json",
        "provenance.json",
        "figures/comparisons_standard.png",
        "figures/manifest.json",
        "report.html",
        "track/*/reptile/*/*.json",
        "track/*/study.json",
    ],
)
def test_any_durable_file_that_is_deleted_is_rebuilt(study: Path, pattern: str) -> None:
    path = next((study / "results" / "smoke").glob(pattern))
    kept = path.read_bytes()
    path.unlink()
    answer = dry(study)
    path.write_bytes(kept)
    made = ", ".join(re.findall(r"^    output: (.*)$", answer.stdout, re.MULTILINE))
    assert str(path.relative_to(study)) in made.split(", ")


def test_the_report_holds_every_figure_and_table(study: Path) -> None:
    answer = snakemake(study, "--report", "results/smoke/report.zip")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    with zipfile.ZipFile(study / "results" / "smoke" / "report.zip") as archive:
        names = " ".join(archive.namelist())
        page = archive.read("report/report.html").decode()
    results = study / "results" / "smoke"
    figures = list((results / "figures").glob("*.svg"))
    tables = [path for path in (results / "tables").iterdir() if path.suffix != ".json"]
    assert figures and tables
    for path in [*figures, *tables]:
        assert path.name in names
    assert page.count('"caption": "<p>') == len(figures) + len(tables)


def refused(answer: subprocess.CompletedProcess[str]) -> str:
    """Return the one line with which Snakemake ended at once."""
    assert answer.returncode == 2 and "Traceback" not in answer.stderr, answer.stderr
    (line,) = [line for line in answer.stderr.splitlines() if line.startswith("metabench: ")]
    assert answer.stderr.rstrip().endswith(line)
    return line


def test_a_report_of_a_study_whose_file_was_changed_is_one_line_that_says_what_to_run(
    study: Path,
) -> None:
    changed = of_smoke(study) | {"statistics": {"resamples": 100}}
    (study / "config" / "changed.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    before = listing(study)
    answer = snakemake(study, "--report", "changed.zip", config="config/changed.yaml")
    line = refused(answer)
    assert "tables/manifest.json was produced with a different config" in line
    assert line.endswith("snakemake --cores all --configfile config/changed.yaml")
    assert len(answer.stderr.splitlines()) == 2  # the other one names the profile
    assert listing(study) == before and not (study / "changed.zip").exists()


def test_a_report_of_an_unfinished_study_is_one_line_that_says_what_to_run(tmp_path: Path) -> None:
    answer = snakemake(copy(tmp_path), "--report", "early.zip")
    line = refused(answer)
    assert "safetensors is not there; run it first: " in line
    assert len(answer.stderr.splitlines()) == 2 and not (tmp_path / "early.zip").exists()


@pytest.mark.parametrize(
    ("target", "near"),
    [
        ("train/reptile/inner-0.5/0-2", "train/reptile/inner-0.02_meta-0.1_600-iterations/0-2"),
        ("train/random/untrained/0-1", "train/random/untrained/0-2"),
        ("train/random/untrained/00-2", "train/random/untrained/0-2"),
        ("train/joint/untrained/0-2", "train/joint/meta-0.01_600-iterations/0-2"),
        ("evaluate/random/untrained/standart/0-2", "evaluate/random/untrained/standard/0-2"),
        ("baselines/robust", "baselines/robustness"),
    ],
)
def test_a_target_that_is_no_file_of_the_study_is_one_line_with_what_was_meant(
    study: Path, target: str, near: str
) -> None:
    before = listing(study)
    line = refused(dry(study, f"results/smoke/{target}.safetensors"))
    assert f"results/smoke/{target}.safetensors is not a file of study smoke" in line
    assert line.endswith(f"the closest is results/smoke/{near}.safetensors")
    assert listing(study) == before


def run_job(folder: Path, job: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a job as Snakemake has a cluster run it; its command line is that of the executor."""
    line = ["--target-jobs", job, "--allowed-rules", job.partition(":")[0], "--cores", "all"]
    line += ["--force", "--no-hooks", "--nolock", "--ignore-incomplete", "--mode", "remote"]
    return snakemake(folder, *line, **variables)


UNTRAINED = "train:algorithm=random,cell=untrained,seeds=0-2"


@pytest.fixture
def started(study: Path, tmp_path: Path) -> Path:
    """The study with one record missing, all others spoilt, and its file edited since."""
    folder = copy(tmp_path / "started")
    shutil.copytree(study / "results", folder / "results")
    for path in (folder / "results").rglob("*.safetensors"):
        path.write_bytes(b"spoilt")
    shutil.rmtree(folder / "results/smoke/checkpoints")
    (folder / "results/smoke/train/random/untrained/0-2.safetensors").unlink()
    edited_since = folder / "config" / "smoke.yaml"
    edited_since.write_text(edited_since.read_text().replace("[32, 32]", "[16]"))
    return folder


def test_a_job_on_another_machine_uses_the_engine_and_the_study_that_was_started(
    study: Path, started: Path
) -> None:
    answer = run_job(started, UNTRAINED, METABENCH_ENGINE="torch", MLFLOW_TRACKING_URI="http://x:1")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "stale" not in answer.stderr
    record = "results/smoke/train/random/untrained/0-2.safetensors"
    assert (started / record).read_bytes() == (study / record).read_bytes()


def test_a_machine_without_the_engine_of_the_study_says_so_in_one_line_of_the_jobs_log(
    study: Path, started: Path, tmp_path: Path
) -> None:
    if engine.library() is None:
        pytest.skip("no kernel was compiled here")
    kernels = shutil.ignore_patterns("__pycache__", "kernel_*")
    shutil.copytree(ROOT / "metabench", tmp_path / "bare" / "metabench", ignore=kernels)
    answer = run_job(started, UNTRAINED, PYTHONPATH=str(tmp_path / "bare"))
    assert answer.returncode != 0
    (line,) = (
        (started / "results/smoke/logs/train/random/untrained/0-2.log").read_text().splitlines()
    )
    assert line.startswith("metabench: the study was started with the fused engine, and ")
    assert "run its jobs on machines that have one, or restart the whole study" in line


def test_a_mistake_in_the_study_file_is_one_line_exit_code_2_and_writes_nothing(
    tmp_path: Path,
) -> None:
    folder = copy(tmp_path)
    path = folder / "config" / "smoke.yaml"
    path.write_text(path.read_text().replace("algorithm: joint", "algorithm: jiont"))
    answer = snakemake(folder, "--cores", "1")
    assert answer.returncode == 2
    lines = [line for line in answer.stderr.splitlines() if line.startswith("metabench: ")]
    assert len(lines) == 1 and "unknown algorithm 'jiont'; choose from alpaca, anil, " in lines[0]
    assert "Traceback" not in answer.stderr and not (folder / "results").exists()


def test_a_killed_study_resumes_to_the_same_bytes(study: Path, tmp_path: Path) -> None:
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
