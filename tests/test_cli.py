"""Each command, and its error messages."""

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click import Argument
from click.testing import CliRunner, Result
from small import FLUX, ROOT, content

from metabench.analysis import frames
from metabench.cli import main
from metabench.learning import training
from metabench.records import artifacts, headers, manifests, running, states
from metabench.records.running import Running
from metabench.views import headline


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def study_in(folder: Path, meta_iterations: int = 20, interval: int = 5) -> Path:
    """Write a study of one cell, Reptile's published one, and return its file."""
    reptile = {
        "algorithm": "reptile",
        "meta_iterations": meta_iterations,
        "inner_step_size": 0.02,
        "meta_step_size": 0.1,
        "published": {},
    }
    changes: dict[str, Any] = {
        "study": "tiny",
        "seeds": 3,
        "seed_block": 3,
        "cells": [reptile],
        "validation": {"tasks": 4, "interval": interval},
        "evaluation": {"tasks": 4},
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps(content(**changes)))
    return path


def started(folder: Path, meta_iterations: int = 20) -> Running:
    """The study in a folder, whose results lie there too."""
    with chdir(folder):
        return running.read(study_in(folder, meta_iterations))


def train(folder: Path, meta_iterations: int = 20, interval: int = 5) -> Path:
    """Train the study's cell by the command and return the record."""
    file = study_in(folder, meta_iterations, interval)
    with chdir(folder):
        answer = run("train", "--study", file, "--cell", "reptile/published", "--seeds", "0-2")
        found = running.read(file)
    assert answer.exit_code == 0, answer.output
    return folder / found.layout.trained(found.study.cells[0].path, "0-2")


def checkpoint_of(record: Path) -> Path:
    """The checkpoint of a training job, by its record."""
    return Path(str(record).replace("/train/", "/checkpoints/"))


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_explains_itself_and_its_options(command: str) -> None:
    answer = run(command, "--help")
    assert answer.exit_code == 0
    for option in main.commands[command].params:
        if isinstance(option, Argument):
            assert option.name in main.commands[command].help, (
                f"{command} does not say what its {option.name} is"
            )
        else:
            assert getattr(option, "help", None), f"--{option.name} of {command} has no help text"


def test_plan_prints_cells_jobs_and_minutes_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run("plan", "--config", FLUX)
    assert "23 cells, 10 seeds" in answer.output and "23 training jobs" in answer.output
    assert "fomaml inner 0.02, meta 0.01" in answer.output and "min on 1 core" in answer.output
    assert not list(tmp_path.iterdir())


def test_a_mistake_in_a_study_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(json.dumps(content(seeds=0)))
    answer = run("plan", "--config", path)
    assert answer.exit_code == 2
    assert (
        answer.output.strip()
        == f"metabench: seeds must be greater than or equal to 1, got 0 ({path}, seeds)"
    )


def test_a_block_of_seeds_that_is_none_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    file = study_in(tmp_path)
    with chdir(tmp_path):
        answer = run("train", "--study", file, "--cell", "reptile/published", "--seeds", "9-0")
    assert answer.exit_code == 2 and "FIRST-LAST" in answer.output and "'9-0'" in answer.output
    assert "Traceback" not in answer.output and not (tmp_path / "results").exists()


def test_a_cell_that_is_none_is_one_line_that_names_those_there_are(tmp_path: Path) -> None:
    file = study_in(tmp_path)
    with chdir(tmp_path):
        answer = run("train", "--study", file, "--cell", "reptile/selected", "--seeds", "0-2")
    assert answer.exit_code == 2 and "reptile/inner 0.02, meta 0.1" in answer.output
    assert len(answer.output.strip().splitlines()) == 1


def test_a_finished_training_job_leaves_a_record_and_its_last_checkpoint(tmp_path: Path) -> None:
    record = train(tmp_path)
    arrays, header = artifacts.read(record)
    assert arrays["theta"].shape == (3, 4353)
    assert header["seeds"] == "0-2" and header["settings"]["algorithm"] == "reptile"
    assert [path.name for path in record.parent.iterdir()] == ["0-2.safetensors"]
    checkpoint = checkpoint_of(record)
    names = {path.name for path in checkpoint.parent.iterdir()}
    assert names == {"0-2.safetensors", "0-2.lock"}
    assert artifacts.read(checkpoint)[1] == header


def test_a_lost_record_is_there_again_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = train(tmp_path)
    before = record.read_bytes()
    record.unlink()
    monkeypatch.setattr("metabench.learning.training._batches", None)
    assert train(tmp_path).read_bytes() == before


def test_a_job_resumes_from_its_checkpoint_to_the_same_bytes(tmp_path: Path) -> None:
    record = train(tmp_path)
    whole, checkpoint = record.read_bytes(), checkpoint_of(record)
    study = started(tmp_path)
    cell = study.study.cells[0]
    settings = study.study.train_settings(cell)
    header = headers.training(settings, "0-2", study.engine)
    half = settings.model_copy(update={"meta_iterations": 10})
    state = training.train(half, (0, 1, 2), cell.value)
    # A changed validation loss shows whether the checkpoint was used.
    marked = state._replace(validation_loss=state.validation_loss + 1)
    artifacts.write(checkpoint, states.from_state(marked), header)
    again, _ = artifacts.read(train(tmp_path))
    assert again["validation_loss"][0, 0] == marked.validation_loss[0, 0].item()
    artifacts.write(checkpoint, states.from_state(state), header)
    assert train(tmp_path).read_bytes() == whole


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_checkpoint_that_cannot_be_trusted_is_reported_and_not_used(
    tmp_path: Path, damage: str
) -> None:
    record = train(tmp_path)
    whole, checkpoint = record.read_bytes(), checkpoint_of(record)
    arrays, header = artifacts.read(record)
    arrays["theta"] = arrays["theta"] + 1
    if damage == "foreign":
        header = {**header, "config": "another study"}
    artifacts.write(checkpoint, arrays, header)
    if damage == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    assert train(tmp_path).read_bytes() == whole


def test_predict_adapts_a_trained_theta_to_points_of_a_file(tmp_path: Path) -> None:
    record, points = (
        train(tmp_path, meta_iterations=300, interval=300),
        tmp_path / "points.csv",
    )
    x = np.linspace(-4, 4, 9)
    pd.DataFrame({"x": x, "y": 2 * np.sin(x + 1)}).to_csv(points, index=False)
    answer = run(
        "predict", "--theta", record, "--seed", 1, "--points", points, "--updates", 200, "--at", 81
    )
    assert answer.exit_code == 0, answer.output
    (tmp_path / "curve.csv").write_text(answer.output)
    curve = pd.read_csv(tmp_path / "curve.csv")
    truth = 2 * np.sin(curve["x"] + 1)
    assert list(curve.columns) == ["x", "before", "after"] and len(curve) == 81
    assert ((curve["after"] - truth) ** 2).mean() < 0.5 * ((curve["before"] - truth) ** 2).mean()
    answer = run(
        "predict", "--theta", record, "--seed", 1, "--points", points, "--updates", 0, "--at", 81
    )
    (tmp_path / "same.csv").write_text(answer.output)
    same = pd.read_csv(tmp_path / "same.csv")
    assert same["after"].equals(same["before"]) and same["before"].equals(curve["before"])


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "x,y\n1,none\n", "x,y\n", "x,y\n1,inf\n", ""])
def test_points_that_are_none_are_one_line_and_exit_code_2(tmp_path: Path, text: str) -> None:
    record, points = train(tmp_path, meta_iterations=5), tmp_path / "points.csv"
    points.write_text(text)
    answer = run("predict", "--theta", record, "--points", points)
    assert answer.exit_code == 2 and str(points) in answer.output
    assert answer.output.startswith("metabench: ") and len(answer.output.strip().splitlines()) == 1


def test_predict_refuses_a_seed_that_the_record_does_not_hold(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text("x,y\n1,1\n")
    answer = run(
        "predict", "--theta", train(tmp_path, meta_iterations=5), "--seed", 7, "--points", points
    )
    assert answer.exit_code == 2 and "has the seeds 0-2, not 7" in answer.output


def folder_of_mistakes(folder: Path) -> dict[str, object]:
    """Return, by name, files that are not what a command asks for, and one trained record."""
    record = folder / "record.safetensors"
    record.write_bytes(train(folder).read_bytes())
    arrays, header = artifacts.read(record)
    forged = {
        "seedless": {**header, "seeds": "0-99999999999"},
        "settingless": {**header, "settings": {}},
        "nameless": {"kind": "train"},
        "wider": {
            **header,
            "settings": {
                **header["settings"],
                "network": {**header["settings"]["network"], "hidden": [65, 64]},
            },
        },
        "evaluated": {**header, "kind": "evaluate"},
    }
    for name, other in forged.items():
        artifacts.write(folder / f"{name}.safetensors", arrays, other)
    artifacts.write(folder / "empty.safetensors", {"x": np.zeros(3)}, header)
    (folder / "points.csv").write_text("x,y\n1,1\n2,0.5\n")
    (folder / "damaged.json").write_text("{}")
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "nothing").touch()
    (folder / "empty_study.yaml").touch()
    (folder / "byte_study.yaml").write_bytes(bytes(range(256)))
    (folder / "endless_study.yaml").symlink_to("/dev/zero")
    (folder / "folder" / "tables").mkdir(parents=True)
    names = {path.stem: path for path in folder.iterdir()}
    return {
        **names,
        "null": "/dev/null",
        "zero": "/dev/zero",
        "out": folder / "out",
        "absent": folder / "absent",
    }


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return folder_of_mistakes(tmp_path_factory.mktemp("given"))


PREDICT = ["predict", "--theta", "{record}", "--points", "{points}"]
BLOCKS = [
    "",
    "0",
    "9-0",
    "-1-3",
    "0-1-2",
    "00-9",
    "0-09",
    "０-9",
    "0-９",
    "٠-٩",
    "0–9",
    "0 -9",
    "0-9\n",
    "1e1-20",
    "0x0-9",
]
BLOCKS += ["0-99999999999", "0-1000", "9999-10000", f"0-{'9' * 5000}", "a-b", "$(id)-9"]

# A command line, with the files above in braces, and what the answer must say.
WRONG: dict[str, tuple[list[str], str]] = {
    "train what is no study": (
        ["train", "--study", "{points}", "--cell", "a/b", "--seeds", "0-2"],
        "unknown study",
    ),
    "train without a cell": (["train", "--study", "flux", "--seeds", "0-2"], "Missing option"),
    "evaluate under no group": (
        [
            *("evaluate", "--study", "flux", "--cell", "reptile/published"),
            *("--seeds", "0-9", "--group", "easy"),
        ],
        "unknown group of protocols 'easy'; choose from standard, robustness",
    ),
    "baselines of a study that is not there": (
        ["baselines", "--study", "{absent}.json", "--group", "standard"],
        "is not a study as it is run",
    ),
    "tables of a damaged study": (
        ["tables", "--study", "{damaged}"],
        "is not a study as it is run",
    ),
    "track no batch": (
        ["track", "cells", "--study", "flux", "--batch", "fomaml", "--store", "s"],
        "unknown batch 'fomaml'; choose from cells_0",
    ),
    "predict with a cell and a record": ([*PREDICT, "--cell", "reptile/published"], "not both"),
    **{
        f"plan {name}": (["plan", "--config", f"{{{name}}}"], "unknown study")
        for name in ("folder", "nothing", "absent", "binary", "record", "points", "null", "zero")
    },
    "plan an empty file": (["plan", "--config", "{empty_study}"], "must be a mapping"),
    "plan bytes": (["plan", "--config", "{byte_study}"], "cannot read"),
    "plan without end": (["plan", "--config", "{endless_study}"], "100000 bytes at most"),
    "plan on no core": (["plan", "--cores", "0"], "0 is not in the range"),
    "plan on all cores": (["plan", "--cores", "9" * 400], "is not in the range"),
    **{
        f"predict with {option} {value:.9}": ([*PREDICT, f"--{option}", value], "Invalid value")
        for option, values in {
            "step-size": [
                "inf",
                "-inf",
                "nan",
                "-nan",
                "0",
                "-0.1",
                "1e7",
                "1e999",
                "0.02.1",
                "",
                "one",
            ],
            "at": ["0", "1", "-5", "100001", "9" * 30, "9" * 5000, "2.5", "inf", "nan"],
            "updates": ["-1", "100001", "9" * 30, "1.5", "nan", "ten"],
            "seed": ["-1", "9" * 5000, "0.5", "nan"],
        }.items()
        for value in values
    },
    "predict from a seed that is not there": (
        [*PREDICT, "--seed", "9" * 30],
        "has the seeds 0-2, not 999",
    ),
    "predict with steps that diverge": (
        [*PREDICT, "--step-size", "1e5", "--updates", "50"],
        "not finite",
    ),
    **{
        f"predict from {name}": (
            ["predict", "--points", "{points}", "--theta", f"{{{name}}}"],
            expected,
        )
        for name, expected in {
            "points": "is not a readable artefact",
            "nothing": "is not a readable artefact",
            "binary": "is not a readable artefact",
            "null": "is not a readable artefact",
            "folder": "is a directory",
            "absent": "does not exist",
            "evaluated": "not a trained record but of kind evaluate",
            "nameless": "has an invalid header for a training record",
            "settingless": "has an invalid header for a training record",
            "seedless": "has an invalid header for a training record",
            "wider": "does not hold what the algorithm in its header learns",
            "empty": "does not hold what the algorithm in its header learns",
        }.items()
    },
    **{
        f"predict at {name}": (
            ["predict", "--theta", "{record}", "--points", f"{{{name}}}"],
            expected,
        )
        for name, expected in {
            "record": "points must be a CSV file",
            "nothing": "points must be a CSV file",
            "binary": "points must be a CSV file",
            "null": "points must be a CSV file",
            "folder": "is a directory",
            "absent": "does not exist",
        }.items()
    },
    "draw nothing": (
        ["figures", "--tables", "{folder}", "--out", "{out}"],
        "run the study first: make benchmark",
    ),
    "draw a file": (["figures", "--tables", "{points}", "--out", "{out}"], "is a file"),
    "draw into a file": (["figures", "--tables", "{folder}", "--out", "{points}"], "is a file"),
    "the headline of nothing": (
        ["headline", "--tables", "{folder}"],
        "run the study first: make benchmark",
    ),
    "the headline of a file": (["headline", "--tables", "{points}"], "is a file"),
    "the short list of nothing": (
        ["shortlist", "--tables", "{folder}"],
        "run the study first: make benchmark",
    ),
    "a short list of none": (["shortlist", "--tables", "{folder}", "--best", "0"], "--best"),
}
WRONG |= {
    f"seeds {n} {block!a:.12}": (["train", "--seeds", block], "FIRST-LAST")
    for n, block in enumerate(BLOCKS)
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_command_line_is_answered_in_one_line_with_exit_code_2_and_writes_nothing(
    given: dict[str, object], name: str
) -> None:
    line, expected = WRONG[name]
    folder = Path(str(given["out"])).parent
    before = sorted(folder.rglob("*"))
    answer = run(*(part.format(**given) for part in line))
    assert isinstance(answer.exception, SystemExit) and answer.exit_code == 2, answer.output
    lines = answer.output.strip().splitlines()
    has_usage = lines[0].startswith("Usage: ")  # Usage, Try, and an empty line
    message, *more = lines[3:] if has_usage else lines
    assert expected in message and message.startswith(("metabench: ", "Error: ")), answer.output
    assert all("missing key " in line or " more (" in line for line in more), answer.output
    assert sorted(folder.rglob("*")) == before


POINTS = {
    "a column too few": b"x\n1\n",
    "capitals": b"X,Y\n1,2\n",
    "semicolons": b"x;y\n1;2\n",
    "a field too few": b"x,y\n1,2\n3\n",
    "a field too many": b"x,y\n1,2\n3,4,5\n",
    "a field too many everywhere": b"x,y\n1,5,2\n",
    "a word": b"x,y\n1,one\n",
    "a word without end": b"x,y\n1," + b"a" * 1_000_000,
    "a number without end": b"x,y\n1," + b"9" * 1_000_000,
    "a number that is too large": b"x,y\n1,1e39\n",
    "NaN": b"x,y\nnan,1\n",
    "an infinity": b"x,y\n1,-inf\n",
    "an open quote": b'x,y\n"1,2\n',
    "a zero byte": b"x,y\n1,\x002\n",
    "underscores": b"x,y\n1_000,2\n",
    "other digits": "x,y\n１,2\n".encode(),
    "another encoding": "x,y\n1,2\n".encode("utf-16"),
    "no rows": b"x,y\n",
    "nothing but an end": b"\n",
    "decimal commas": b"x,y\n1,5,2\n2,5,3\n",
    "decimal commas of one column": b"x,y\n1,2,5\n2,3\n",
    "a quoted decimal comma": b'x,y\n"1,5",2\n',
    "a name too many": b"x,y,z\n1,2\n",
    "a column twice": b"x,y,x\n1,2,3\n",
    "hexadecimal": b"x,y\n0x1f,2\n",
    "a sign twice": b"x,y\n--1,2\n",
    "a unit": b"x,y\n1 m,2\n",
    "a space between digits": b"x,y\n1 000,2\n",
    "a NaN after a space": b"x,y\n1, nan\n",
    "an empty field": b"x,y\n1,\n",
    "text after a quote": b'x,y\n"1"5,2\n',
    "a comment": b"x,y\n# 1,2\n",
    "an exponent without digits": b"x,y\n1e,2\n",
    "a number that overflows": b"x,y\n1e999,2\n",
}


@pytest.mark.parametrize("name", POINTS)
def test_points_that_nobody_can_adapt_to_are_one_line_and_exit_code_2(
    given: dict[str, object], tmp_path: Path, name: str
) -> None:
    points = tmp_path / "points.csv"
    points.write_bytes(POINTS[name])
    answer = run("predict", "--theta", given["record"], "--points", points)
    assert answer.exit_code == 2 and answer.output.startswith("metabench: points must be "), (
        answer.output
    )
    assert (
        str(points) in answer.output and answer.output.count("\n") == 1 and len(answer.output) < 500
    )


FINE = {
    "plain": b"x,y\n1,2\n-0.5,2e-1\n",
    "another order and other columns": b"note,y,n,x\nfirst,2,7,1\n,0.2,,-.5\n",
    "spaces": b"x, y\n 1, 2\n-0.5 ,\t.2\n",
    "quotes": b'"x","y"\n"1","2."\n"-0.5","0.2"\n',
    "empty lines and the ends of Windows": b"x,y\r\n1,+2\r\n\r\n-5E-1,0.2\r\n\r\n",
    "the mark with which Excel begins": b"\xef\xbb\xbfx,y\n1,2\n-0.5,0.2",
}


@pytest.mark.parametrize("name", FINE)
def test_points_are_read_as_they_are_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "points.csv").write_bytes(FINE[name])
    found = frames.read_points(tmp_path / "points.csv")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[1, 2], [-0.5, 0.2]], np.float32))


def test_the_row_with_a_decimal_comma_is_named_with_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("x,y\n1,2\n\n1,5,2\n")
    with pytest.raises(artifacts.ArtifactError) as refusal:
        frames.read_points(tmp_path / "points.csv")
    assert str(refusal.value) == (
        f"points must be a CSV file with the columns x and y: {tmp_path}/points.csv, line 4: a row"
        " must have as many fields as the header, 2, got 3; decimals need a point, since the comma"
        " ends a field"
    )


LEADERBOARD = (ROOT / "results" / "reference" / "flux" / "tables" / "leaderboard.csv").read_bytes()
DAMAGES = {
    "nothing": b"",
    "bytes": bytes(range(256)),
    "another encoding": LEADERBOARD.decode().encode("utf-16"),
    "a foreign table": b"x,y\n1,2\n",
    "a column too few": LEADERBOARD.replace(b",median,", b",middle,"),
    "a word for a number": LEADERBOARD.replace(b",1000,", b",many,").replace(
        b",0.2", b",about 0.2"
    ),
    "a word for a truth value": LEADERBOARD.replace(b",False,", b",maybe,"),
    "a row that ends early": LEADERBOARD.rsplit(b",", 34)[0],
    "a row that goes on": LEADERBOARD + b"," * 99,
    "an open quote": LEADERBOARD + b'"',
}


@pytest.mark.parametrize("command", [("headline",), ("shortlist",), ("figures", "--out", "OUT")])
@pytest.mark.parametrize("name", DAMAGES)
def test_tables_that_are_damaged_or_foreign_are_one_line_and_exit_code_2(
    tmp_path: Path, name: str, command: tuple[str, ...]
) -> None:
    tables, out = tmp_path / "tables", tmp_path / "out"
    tables.mkdir()
    arguments = [out if word == "OUT" else word for word in command]
    (tables / "leaderboard.csv").write_bytes(DAMAGES[name])
    foreign = run(*arguments, "--tables", tables)
    (tables / "leaderboard.csv").write_bytes(LEADERBOARD)
    manifests.write(tables, ["leaderboard.csv"], {})
    (tables / "leaderboard.csv").write_bytes(DAMAGES[name])
    damaged = run(*arguments, "--tables", tables)
    for answer, expected in (
        (foreign, "run the study first: make benchmark"),
        (damaged, "is damaged or was changed"),
    ):
        assert (
            answer.exit_code == 2
            and answer.output.startswith("metabench: ")
            and expected in answer.output
        )
        assert answer.output.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize("content", [b"", b"PAR1", bytes(range(256)), b"PAR1" * 100])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tasks.parquet").write_bytes(content)
    with pytest.raises(
        artifacts.ArtifactError, match=r"tasks\.parquet is not a readable table: .*"
    ):
        frames.read(tmp_path, "tasks.parquet")


def test_a_study_whose_cells_all_diverged_has_a_headline() -> None:
    rows = frames.read(ROOT / "results" / "reference" / "flux" / "tables", "leaderboard.csv")
    assert "| reptile | published | own" in headline.markdown(rows.assign(selected=False))


def test_an_algorithm_that_is_not_there_is_one_line_and_exit_code_2(tmp_path):
    for missing in (tmp_path / "mine.py", "reptil"):
        answer = run("check-algorithm", missing)
        assert (
            answer.exit_code == 2
            and answer.output.startswith("metabench: ")
            and "Traceback" not in answer.output
        )
