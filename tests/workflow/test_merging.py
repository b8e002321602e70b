"""Results of several machines merge into one study, with the same bytes as from one machine."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small
from click.testing import CliRunner, Result

from metabench import jobs
from metabench.cli import main
from metabench.learning import engine
from metabench.records import artifacts, locks, running
from metabench.records.headers import NUMERICS
from metabench.records.layout import Layout
from metabench.records.provenance import version, versions
from metabench.records.running import Running
from metabench.views import reference

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
        for seconds, path in enumerate(sorted(ROOT.glob("train/**/*.safetensors"))):
            time = time_of(path, ROOT)
            time.parent.mkdir(parents=True, exist_ok=True)
            time.write_text(f"s\n{seconds}\n")
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
                time_of(path, half).unlink(missing_ok=True)
        halves.append(half)
    (tmp_path / "here" / "config").mkdir(parents=True)
    shutil.copy(whole / ROOT / "study.json", tmp_path / "study.json")
    monkeypatch.chdir(tmp_path / "here")
    small.running(CONTENT, ROOT).write()
    return halves


def time_of(record: Path, root: Path) -> Path:
    """Return the file in which Snakemake records the time of the job of a record."""
    return Layout(root).benchmark(*record.relative_to(root).with_suffix("").parts)


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


def test_times_come_with_the_records_of_their_jobs(machines: list[Path], whole: Path) -> None:
    assert merge(*machines).exit_code == 0
    jobs.tables(running.read("tiny"))
    seconds = reference.seconds(ROOT)
    assert len(seconds) == 4
    assert seconds.equals(reference.seconds(whole / ROOT))


def test_the_time_of_a_record_that_is_replaced_does_not_stay(machines: list[Path]) -> None:
    shutil.rmtree(machines[0] / "benchmarks")
    time = Layout(ROOT).benchmark("train", FOMAML, "0-1")
    time.parent.mkdir(parents=True)
    time.write_text("s\n99\n")
    assert merge(*machines).exit_code == 0
    assert not time.exists()


def test_what_no_machine_has_is_counted(machines: list[Path]) -> None:
    assert "8 records imported, 0 already there, 6 missing" in merge(machines[0]).output


FOMAML, RANDOM = (cell.path for cell in small.study(CONTENT).cells)


def spoiled(folder: Path) -> None:
    """Change a bit of one record, as a bad disk would."""
    path = folder / "train" / FOMAML / "0-1.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-9] ^= 1
    path.write_bytes(whole)


def a_directory(folder: Path) -> None:
    path = folder / "baselines" / "standard.safetensors"
    path.unlink()
    path.mkdir()


def of_other_settings(folder: Path) -> None:
    started = small.running(CONTENT | {"validation": {"tasks": 5, "interval": 10}}, folder)
    shutil.rmtree(folder / "checkpoints")
    for cell in started.study.cells:
        jobs.train(started, cell, "0-1")


def of_other_blocks(folder: Path) -> None:
    started = small.running(CONTENT | {"seed_block": 1}, folder)
    for seeds in started.study.blocks:
        jobs.train(started, started.study.cell(RANDOM), seeds)


def of_other_cells(folder: Path) -> None:
    started = small.running(CONTENT | {"cells": [small.short_fomaml(30, [0.01, 0.02])]}, folder)
    jobs.train(started, started.study.cells[1], "0-1")


def of_other_groups(folder: Path) -> None:
    shutil.copy(
        folder / "baselines" / "standard.safetensors", folder / "baselines" / "far.safetensors"
    )
    for path in (folder / "evaluate").rglob("standard"):
        shutil.copytree(path, path.with_name("far"))


def of_other_predictions(folder: Path) -> None:
    (folder / "predictions").mkdir()
    source = folder / "baselines" / "standard.safetensors"
    shutil.copy(source, folder / "predictions" / "forest.safetensors")


def at_another_depth(folder: Path) -> None:
    shutil.copy(folder / "train" / FOMAML / "0-1.safetensors", folder / "train")


def without_training(folder: Path) -> None:
    shutil.rmtree(folder / "train")


def rewritten(folder: Path, **changes: Any) -> None:
    """Write the training records of a folder with other entries in their headers."""
    for path in (folder / "train").rglob("*.safetensors"):
        arrays, header = artifacts.read(path)
        artifacts.write(path, arrays, header | changes)


WITHOUT = "evaluations without a training record that fits: {} records ({}), the first is evaluate/"
REFUSED: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "damaged": (
        spoiled,
        [
            f"damaged or unreadable: 1 record, {{0}}/train/{FOMAML}/0-1.safetensors",
            WITHOUT.format(2, "{0}"),
        ],
    ),
    "a directory": (
        a_directory,
        ["damaged or unreadable: 1 record, {0}/baselines/standard.safetensors"],
    ),
    "other settings": (
        of_other_settings,
        [
            "validation.tasks is 5, this study has 4: 2 records ({0}), the first is train/fomaml/",
            WITHOUT.format(4, "{0}"),
        ],
    ),
    "other blocks": (
        of_other_blocks,
        [
            "other blocks of seeds than this study's, which has 3 seeds in blocks of 2: 2 records "
            "({0}), the first is train/random/"
        ],
    ),
    "other cells": (
        of_other_cells,
        ["cells that this study does not have: 1 record, {0}/train/fomaml/"],
    ),
    "other groups": (
        of_other_groups,
        [
            "groups of protocols that this study does not have: 3 records ({0}), the first is "
            "evaluate/"
        ],
    ),
    "other predictions": (
        of_other_predictions,
        ["predictions that this study does not have: 1 record, {0}/predictions/forest.safetensors"],
    ),
    "another depth": (
        at_another_depth,
        ["no place of a record: 1 record, {0}/train/0-1.safetensors"],
    ),
    "no training": (without_training, [WITHOUT.format(4, "{0}")]),
    "other code": (
        lambda folder: rewritten(folder, code="0"),
        ["different source code: 2 records ({0}), the first is train/", WITHOUT.format(4, "{0}")],
    ),
    "other engine": (
        lambda folder: rewritten(folder, engine="abacus"),
        [
            f"engine is abacus, this study has {engine.name()}: 2 records ({{0}}), the first is ",
            WITHOUT.format(4, "{0}"),
        ],
    ),
    "other versions": (
        lambda folder: rewritten(folder, versions=versions(*NUMERICS) | {"numpy": "0.1"}),
        [
            f"versions.numpy is 0.1, this study has {version('numpy')}: 2 records ({{0}}), ",
            WITHOUT.format(4, "{0}"),
        ],
    ),
}
"""How to spoil a folder, and how the lines of the answer begin."""


@pytest.mark.parametrize("how", REFUSED)
def test_what_does_not_belong_is_refused_in_a_line_per_reason_and_all_else_is_taken(
    machines: list[Path], whole: Path, how: str
) -> None:
    spoil, begins = REFUSED[how]
    spoil(machines[0])
    answer = merge(*machines)
    assert answer.exit_code == 1
    lines = answer.stderr.splitlines()
    assert len(lines) == len(begins), lines
    for line, begin in zip(lines, begins, strict=True):
        assert line.startswith("metabench: " + begin.format(machines[0])), line
    kept, every = records(ROOT), records(whole / ROOT)
    assert kept.items() <= every.items()
    assert {place for place in every if place.stem == "2-2"} <= set(kept)
    assert (
        f"{len(kept)} records imported, 0 already there, {14 - len(kept)} missing" in answer.output
    )


def test_of_many_settings_that_differ_some_are_named_and_the_rest_are_counted(
    machines: list[Path],
) -> None:
    (machines[0] / "evaluate").rename(machines[0] / "left out")
    rewritten(machines[0], config="0", settings={})
    lines = merge(*machines).stderr.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.search(r"(\S+ is not set, this study has .*; ){3}and \d+ more: 1 record, ", line)


@pytest.fixture
def disagreeing(whole: Path, tmp_path: Path) -> Path:
    """A folder of another compiler: a training with other last digits, and its evaluations."""
    folder = tmp_path / "disagreeing"
    shutil.copytree(whole / ROOT, folder)
    path = folder / "train" / FOMAML / "0-1.safetensors"
    arrays, header = artifacts.read(path)
    arrays["theta"] = np.nextafter(arrays["theta"], np.float32(1))
    artifacts.write(path, arrays, header)
    theta = artifacts.read_header(path)["content"]
    for path in (folder / "evaluate" / FOMAML).rglob("0-1.safetensors"):
        arrays, header = artifacts.read(path)
        artifacts.write(path, arrays, header | {"theta": theta})
    return folder


def disagreement(first: Path, other: Path) -> list[str]:
    """Return the lines about the training on which two folders disagree."""
    return [
        f"metabench: content differs from that in {first}, although settings, code and versions "
        f"are equal: 1 record, {other / 'train' / FOMAML / '0-1.safetensors'}",
        f"metabench: evaluations of different training records: 2 records ({other}), the first is "
        f"evaluate/{FOMAML}/standard/0-1.safetensors",
    ]


def test_of_machines_that_disagree_the_first_is_kept_with_its_evaluations(
    machines: list[Path], disagreeing: Path, whole: Path
) -> None:
    answer = merge(*machines, disagreeing)
    assert answer.exit_code == 1
    assert answer.stderr.splitlines() == disagreement(machines[0], disagreeing)
    assert records(ROOT) == records(whole / ROOT)

    again = merge(disagreeing)
    assert again.exit_code == 1
    assert again.stderr.splitlines() == disagreement(ROOT, disagreeing)
    assert records(ROOT) == records(whole / ROOT)


def test_the_order_of_folders_decides_whose_training_is_kept(
    machines: list[Path], disagreeing: Path
) -> None:
    answer = merge(disagreeing, *machines)
    assert answer.stderr.splitlines() == disagreement(disagreeing, machines[0])
    assert records(ROOT) == records(disagreeing)


def test_evaluations_of_a_training_that_is_not_kept_are_not_imported(
    machines: list[Path], disagreeing: Path
) -> None:
    for path in (machines[0] / "evaluate" / FOMAML).rglob("0-1.safetensors"):
        path.unlink()
    answer = merge(*machines, disagreeing)
    assert answer.stderr.splitlines() == disagreement(machines[0], disagreeing)
    assert "12 records imported, 0 already there, 2 missing" in answer.output


def test_evaluations_of_an_outdated_training_are_not_imported(machines: list[Path]) -> None:
    of_other_settings(machines[0])
    outdated = small.running(CONTENT | {"validation": {"tasks": 5, "interval": 10}}, machines[0])
    for cell in outdated.study.cells:
        for group in outdated.study.groups:
            jobs.evaluate(outdated, cell, group, "0-1")
    shutil.copytree(machines[0] / "train", ROOT / "train")
    answer = merge(*machines)
    assert len(answer.stderr.splitlines()) == 2
    assert "evaluations without a training record that fits: 4 records" in answer.stderr
    assert not list((ROOT / "evaluate").rglob("0-1.safetensors"))


def test_training_records_are_refused_by_a_study_that_is_trained_in_another(
    machines: list[Path],
) -> None:
    assert merge(*machines).exit_code == 0
    Running.start(small.study(CONTENT | {"study": "view", "trained_in": "tiny"})).write()
    answer = CliRunner().invoke(main, ["merge", "--study", "view", str(machines[0])])
    assert answer.exit_code == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("metabench: training records, which belong in tiny: 2 records (")
    assert "6 records imported, 0 already there, 4 missing" in answer.output


def test_baselines_on_which_machines_disagree_are_refused(
    machines: list[Path], whole: Path
) -> None:
    for path in (machines[1] / "baselines").iterdir():
        arrays, header = artifacts.read(path)
        name = min(arrays)
        artifacts.write(path, arrays | {name: np.nextafter(arrays[name], 0)}, header)
    answer = merge(*machines)
    assert answer.exit_code == 1
    assert answer.stderr.splitlines() == [
        f"metabench: content differs from that in {machines[0]}, although settings, code and "
        f"versions are equal: 2 records ({machines[1]}), the first is "
        f"baselines/standard.safetensors"
    ]
    assert records(ROOT) == records(whole / ROOT)


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
