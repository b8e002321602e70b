"""Results of several machines merge into one study, with the same bytes as from one machine."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import small
from click.testing import CliRunner, Result

from metabench import jobs
from metabench.cli import main
from metabench.records import locks, running
from metabench.records.layout import Layout

CONTENT = small.tiny(
    seeds=3,
    cells=[small.short_fomaml(30, 0.01), small.RANDOM],
    validation={"tasks": 4, "interval": 10},
)
ROOT = Path("results/tiny")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one machine has computed all of a study."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        started = small.running(CONTENT, ROOT)
        started.write()
        small.compute(started)
        jobs.tables(started)
    return folder


@pytest.fixture
def machines(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two folders with half of its records each, seen from an empty third one."""
    halves = []
    for name, block in (("one", "0-1"), ("two", "2-2")):
        half = tmp_path / name
        shutil.copytree(whole / ROOT, half)
        for path in half.rglob("*.safetensors"):
            if path.stem not in (block, "standard", "robustness"):
                path.unlink()
        halves.append(half)
    (tmp_path / "here" / "config").mkdir(parents=True)
    shutil.copy(whole / ROOT / "study.json", tmp_path / "study.json")
    monkeypatch.chdir(tmp_path / "here")
    small.running(CONTENT, ROOT).write()
    return halves


def merge(*folders: Path) -> Result:
    return CliRunner().invoke(main, ["merge", "--study", "tiny", *map(str, folders)])


def records(root: Path) -> dict[Path, bytes]:
    found = (path for path in root.rglob("*.safetensors") if "checkpoints" not in path.parts)
    return {path.relative_to(root): path.read_bytes() for path in found}


def test_two_machines_give_what_one_would_have_given(machines: list[Path], whole: Path) -> None:
    answer = merge(*machines)
    assert answer.exit_code == 0, answer.output
    assert answer.output == "14 records imported, 0 already there, 0 missing\n"
    assert records(ROOT) == records(whole / ROOT)
    jobs.tables(running.read("tiny"))
    for path in (whole / ROOT / "tables").iterdir():
        assert (ROOT / "tables" / path.name).read_bytes() == path.read_bytes(), path.name
    again = merge(*machines)
    assert again.output == "0 records imported, 14 already there, 0 missing\n"


def test_what_no_machine_has_is_counted(machines: list[Path]) -> None:
    assert "8 records imported, 0 already there, 6 missing" in merge(machines[0]).output


def spoiled(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-9] ^= 1
    path.write_bytes(whole)


def of_another_study(path: Path) -> None:
    content = CONTENT | {"validation": {"tasks": 5, "interval": 10}}
    started = small.running(content, path.parents[3])
    for cell, seeds in started.study.train_jobs:
        if started.layout.trained(cell.path, seeds) == path:
            started.layout.checkpoint(cell.path, seeds).unlink(missing_ok=True)
            jobs.train(started, cell, seeds)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "damaged": (spoiled, "is damaged"),
    "of another study": (of_another_study, "was produced with a different config"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_does_not_belong_is_refused_in_a_line_and_all_else_is_taken(
    machines: list[Path], how: str
) -> None:
    spoil, reason = REFUSED[how]
    (path,) = (machines[0] / "train" / "fomaml").rglob("0-1.safetensors")
    spoil(path)
    answer = merge(*machines)
    assert answer.exit_code == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"metabench: {path} ") and reason in line
    kept = records(ROOT)
    assert Path("train/fomaml") not in {place.parents[1] for place in kept if place.stem == "0-1"}
    assert any(place.stem == "2-2" for place in kept)


def test_folders_that_are_none_and_a_study_that_runs_are_one_line(machines: list[Path]) -> None:
    empty = Path("empty")
    empty.mkdir()
    for folder, reason in ((empty, "has no records"), (ROOT, "has no records")):
        answer = merge(folder)
        assert answer.exit_code == 2 and reason in answer.stderr, answer.output
    assert merge(*machines).exit_code == 0
    answer = merge(ROOT)
    assert answer.exit_code == 2 and "is the study's own folder" in answer.stderr
    lock = locks.take(Layout(ROOT).lock)
    assert lock
    with lock:
        answer = merge(*machines)
        assert answer.exit_code == 2 and "is being run by process" in answer.stderr
