"""Each command, and what it answers to a mistake."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from small import FLUX, content, published, train_settings

from metabench import artifacts, plans, records
from metabench.cli import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def train(folder: Path, algorithm: str = "reptile", meta_iterations: int = 20, **changes: object) -> Path:
    out = folder / "record.safetensors"
    settings = json.dumps(train_settings(algorithm, meta_iterations, **changes))
    answer = run(
        "train", "--settings", settings, "--seeds", "0-2", "--checkpoint", folder / "c.safetensors", "--out", out
    )
    assert answer.exit_code == 0, answer.output
    return out


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_explains_itself_and_its_options(command: str) -> None:
    answer = run(command, "--help")
    assert answer.exit_code == 0
    for option in main.commands[command].params:
        assert getattr(option, "help", None), f"--{option.name} of {command} has no help text"


def test_plan_prints_cells_jobs_and_minutes_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run("plan", "--config", FLUX)
    assert "23 cells, 10 seeds, 23 training jobs and as many evaluations" in answer.output
    assert published("fomaml").id in answer.output and "min on 1 core" in answer.output
    assert not list(tmp_path.iterdir())


def test_a_mistake_in_a_study_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(json.dumps(content(seeds=0)))
    answer = run("plan", "--config", path)
    assert answer.exit_code == 2
    assert answer.output.strip() == f"metabench: seeds must be greater than or equal to 1, got 0 ({path}, seeds)"


def test_a_block_of_seeds_that_is_none_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    settings = json.dumps(train_settings("reptile", 5))
    answer = run("train", "--settings", settings, "--seeds", "9-0", "--checkpoint", tmp_path / "c", "--out", out)
    assert answer.exit_code == 2 and "FIRST-LAST" in answer.output and "'9-0'" in answer.output
    assert "Traceback" not in answer.output and not out.exists()


def test_a_finished_training_job_leaves_a_record_and_no_checkpoint(tmp_path: Path) -> None:
    arrays, header = artifacts.read(train(tmp_path))
    assert (
        arrays["theta"].shape == (3, 4353) and header["seeds"] == "0-2" and header["settings"]["algorithm"] == "reptile"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["record.safetensors"]


def test_a_job_goes_on_from_its_checkpoint_to_the_same_bytes(tmp_path: Path) -> None:
    whole = train(tmp_path).read_bytes()
    settings = train_settings("reptile", 20)
    half = train_settings("reptile", 10)
    header = records.training_header(settings, "0-2")
    from metabench import algorithms, training

    state = training.train(half, (0, 1, 2), algorithms.load("reptile"))
    marked = state._replace(validation_loss=state.validation_loss + 1)  # shows whether the checkpoint was used
    artifacts.write(tmp_path / "c.safetensors", records.from_state(marked), header)
    again, _ = artifacts.read(train(tmp_path))
    assert again["validation_loss"][0, 0] > 1 + np.float64(0)
    artifacts.write(tmp_path / "c.safetensors", records.from_state(state), header)
    assert train(tmp_path).read_bytes() == whole


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_checkpoint_that_cannot_be_trusted_is_said_and_not_used(tmp_path: Path, damage: str) -> None:
    whole = train(tmp_path).read_bytes()
    checkpoint = tmp_path / "c.safetensors"
    arrays, header = artifacts.read(tmp_path / "record.safetensors")
    arrays["theta"] = arrays["theta"] + 1
    artifacts.write(checkpoint, arrays, {**header, "config": "another study"} if damage == "foreign" else header)
    if damage == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    assert train(tmp_path).read_bytes() == whole


def test_predict_adapts_a_trained_theta_to_points_of_a_file(tmp_path: Path) -> None:
    record, points = train(tmp_path, meta_iterations=300, validation={"interval": 300}), tmp_path / "points.csv"
    x = np.linspace(-4, 4, 9)
    pd.DataFrame({"x": x, "y": 2 * np.sin(x + 1)}).to_csv(points, index=False)
    answer = run("predict", "--theta", record, "--seed", 1, "--points", points, "--updates", 200, "--at", 81)
    assert answer.exit_code == 0, answer.output
    (tmp_path / "curve.csv").write_text(answer.output)
    curve = pd.read_csv(tmp_path / "curve.csv")
    truth = 2 * np.sin(curve["x"] + 1)
    assert list(curve.columns) == ["x", "before", "after"] and len(curve) == 81
    assert ((curve["after"] - truth) ** 2).mean() < 0.5 * ((curve["before"] - truth) ** 2).mean()


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
    answer = run("predict", "--theta", train(tmp_path, meta_iterations=5), "--seed", 7, "--points", points)
    assert answer.exit_code == 2 and "holds the seeds 0-2, not 7" in answer.output


def test_plans_and_jobs_agree_on_the_header(tmp_path: Path) -> None:
    _, header = artifacts.read(train(tmp_path))
    assert header["code"] == plans.train_code("reptile")
