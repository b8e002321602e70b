"""Real Snakemake runs of the smoke study, in a copy of the workflow: the package is the one under test."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PARTS = ("Snakefile", "workflow", "profiles", "config", "environment.yml")

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def copy(folder: Path) -> Path:
    """Copy what Snakemake needs beside the package."""
    for part in PARTS:
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    return folder


def environment() -> dict[str, str]:
    """Return the environment of an unactivated shell: the interpreter's folder is not on the path."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTEST"))}
    return {**kept, "PATH": "/usr/local/bin:/usr/bin:/bin"}


def snakemake(folder: Path, *arguments: str, config: str = "config/smoke.yaml") -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "snakemake"), "--configfile", config, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment(), check=False)


def digests(folder: Path, *parts: str) -> dict[str, str]:
    """Return the SHA-256 of every file below parts of a study's folder."""
    root = folder / "results" / "smoke"
    files = sorted(path for part in parts for path in (root / part).rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scheduled(folder: Path, **changes: object) -> dict[str, int]:
    """Return how many jobs of each rule would run if keys of the smoke study were replaced."""
    path = folder / "config" / "changed.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load((folder / "config" / "smoke.yaml").read_text()), **changes}))
    answer = snakemake(folder, "--cores", "1", "--dry-run", config="config/changed.yaml")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", answer.stdout, re.MULTILINE)}


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
    from metabench import tables

    root = study / "results" / "smoke"
    assert {path.name for path in (root / "tables").iterdir()} == set(tables.NAMES)
    svg, png = ({path.stem for path in (root / "figures").glob(f"*.{kind}")} for kind in ("svg", "png"))
    assert svg == png and "showcase_fomaml_robustness" in svg and len(svg) > 10
    assert (root / "provenance.json").exists() and not list((root / "checkpoints").rglob("*.safetensors"))


def test_a_second_call_has_nothing_to_do(study: Path) -> None:
    assert "Nothing to be done" in (answer := snakemake(study, "--cores", "2")).stdout + answer.stderr


def test_the_bytes_are_the_same_with_one_core_another_folder_and_other_seed_blocks(study: Path, tmp_path: Path) -> None:
    other = copy(tmp_path)
    (other / "config" / "smoke.yaml").write_text(
        (study / "config" / "smoke.yaml").read_text().replace("seed_block: 3", "seed_block: 2")
    )
    answer = snakemake(other, "--cores", "1", "tables", "figures")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert digests(other, "tables", "figures") == digests(study, "tables", "figures")


def test_more_seeds_and_more_cells_leave_finished_jobs_alone(study: Path) -> None:
    assert scheduled(study, seeds=5)["train"] == 6  # seeds 3 and 4 of six cells; the block 0-2 stays
    cells = yaml.safe_load((study / "config" / "smoke.yaml").read_text())["cells"]
    cells[1]["meta_step_size"] = [0.1, 0.2]
    cells[1]["published"] = {"meta_step_size": 0.1}
    jobs = scheduled(study, cells=cells)
    assert jobs["train"] == 1 and jobs["evaluate"] == 1 and jobs["tables"] == 1


def test_a_file_that_is_deleted_is_made_again(study: Path) -> None:
    (study / "results" / "smoke" / "tables" / "runs.csv").unlink()
    assert scheduled(study)["tables"] == 1
    assert snakemake(study, "--cores", "1").returncode == 0
    assert (study / "results" / "smoke" / "tables" / "runs.csv").exists()


def test_editing_an_algorithm_reruns_its_cells_only(study: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "metabench", tmp_path / "metabench")
    source = tmp_path / "metabench" / "algorithms" / "reptile.py"
    source.write_text(source.read_text() + "\n# edited\n")
    command = [str(BIN / "snakemake"), "--configfile", "config/smoke.yaml", "--cores", "1", "--dry-run"]
    edited = {**environment(), "PYTHONPATH": str(tmp_path)}
    answer = subprocess.run(command, cwd=study, capture_output=True, text=True, env=edited, check=True)
    trained = set(re.findall(r"output: results/smoke/train/(\w+)/", answer.stdout))
    assert trained == {"reptile"}


def test_the_report_holds_every_figure_and_table(study: Path) -> None:
    answer = snakemake(study, "--report", "results/smoke/report.zip")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    with zipfile.ZipFile(study / "results" / "smoke" / "report.zip") as archive:
        names = " ".join(archive.namelist())
    for path in [*(study / "results/smoke/figures").glob("*.svg"), *(study / "results/smoke/tables").glob("*.csv")]:
        assert path.name in names


def test_a_mistake_in_the_study_file_is_one_line_exit_code_2_and_writes_nothing(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    path = folder / "config" / "smoke.yaml"
    path.write_text(path.read_text().replace("algorithm: joint", "algorithm: jiont"))
    answer = snakemake(folder, "--cores", "1")
    assert answer.returncode == 2
    lines = [line for line in answer.stderr.splitlines() if line.startswith("metabench: ")]
    assert len(lines) == 1 and "unknown algorithm 'jiont'; choose from 'fomaml', 'joint'" in lines[0]
    assert "Traceback" not in answer.stderr and not (folder / "results").exists()


def test_a_killed_study_goes_on_to_the_same_bytes(study: Path, tmp_path: Path) -> None:
    folder = copy(tmp_path)
    command = [str(BIN / "snakemake"), "--configfile", "config/smoke.yaml", "--cores", "2", "tables"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(folder.rglob("checkpoints/**/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert snakemake(folder, "--unlock").returncode == 0  # the step that README names
    answer = snakemake(folder, "--cores", "2", "tables")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert digests(folder, "tables") == digests(study, "tables")
