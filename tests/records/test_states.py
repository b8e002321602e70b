"""Training states as files: a state is read back as written, and one of another job is rejected."""

import numpy as np
import pytest
import small
import torch

from metabench.learning import algorithms, training
from metabench.learning.settings import EvaluatedProtocol
from metabench.records import artifacts, headers, states
from metabench.records.artifacts import ArtifactError

SEEDS = "0-1"
HIDDEN = {"hidden": [6]}


def settings(algorithm="fomaml", iterations=8, **changes):
    """Settings of a short training with an outer optimizer that remembers."""
    changes.setdefault("hyperparameters", {"meta_optimizer": "adam"})
    return small.train_settings(algorithm, iterations, network=HIDDEN, **changes)


def evaluation(**changes):
    """Settings of an evaluation of what `settings` trains."""
    changes.setdefault("hyperparameters", {"meta_optimizer": "adam"})
    algorithm = changes.pop("algorithm", "fomaml")
    return small.evaluate_settings(algorithm, **{"network": HIDDEN, **changes})


def every_state(given):
    """The states after each validation, the first of them in the middle of training."""
    found = []
    training.train(given, (0, 1), algorithms.load(given.algorithm), after_interval=found.append)
    return found


GIVEN = settings()
MIDDLE, LAST = every_state(GIVEN)


def header(given=GIVEN, seeds=SEEDS, engine="torch"):
    return headers.training(given, seeds, engine)


def file(folder, state=LAST, head=None, **arrays):
    """A record of a state; keywords replace its arrays, or take them away."""
    path = folder / "record.safetensors"
    found = {**states.from_state(state), **arrays}
    kept = {name: array for name, array in found.items() if array is not None}
    artifacts.write(path, kept, header() if head is None else head)
    return path


def equal(a, b):
    return a.meta_iteration == b.meta_iteration and all(
        torch.equal(x, y) for x, y in zip(a[1:], b[1:], strict=True)
    )


# Checkpoints.


@pytest.mark.parametrize("state", [MIDDLE, LAST], ids=["middle", "end"])
def test_a_checkpoint_is_read_back_bit_for_bit(state, tmp_path):
    found = states.read_checkpoint(file(tmp_path, state), GIVEN, header())
    assert equal(found, state) and found.memory.shape[0] == 2


def test_training_from_a_checkpoint_ends_where_training_at_once_does(tmp_path):
    found = states.read_checkpoint(file(tmp_path, MIDDLE), GIVEN, header())
    resumed = training.train(GIVEN, (0, 1), algorithms.load("fomaml"), found)
    assert equal(resumed, LAST)


def test_without_a_checkpoint_there_is_none_and_nothing_is_said(tmp_path, capsys):
    assert states.read_checkpoint(tmp_path / "none.safetensors", GIVEN, header()) is None
    assert capsys.readouterr() == ("", "")


def foreign():
    """Headers of other jobs."""
    return {
        "another meta step": header(settings(hyperparameters={"meta_step_size": 0.5})),
        "another length": header(settings(iterations=9)),
        "another network": header(small.train_settings("fomaml", 8)),
        "other seeds": header(seeds="2-3"),
        "another engine": header(engine="fused"),
        "another source": {**header(), "code": "0123456789abcdef"},
        "other versions": {**header(), "versions": {"torch": "1.0", "numpy": "1.0"}},
        "another kind": {**header(), "kind": "evaluate"},
    }


@pytest.mark.parametrize("name", foreign())
def test_a_checkpoint_of_another_job_is_reported_and_not_used(name, tmp_path, capsys):
    path = file(tmp_path, MIDDLE, foreign()[name])
    assert states.read_checkpoint(path, GIVEN, header()) is None
    message = capsys.readouterr().err
    assert message.startswith("restarted from the beginning: ") and str(path) in message


IMPOSSIBLE = {
    "a theta of another width": {"theta": np.zeros((2, 20), np.float32)},
    "a run too many": {"theta": np.zeros((3, 19), np.float32)},
    "a theta in double precision": {"theta": np.zeros((2, 19))},
    "no memory": {"memory": None},
    "an array too many": {"colour": np.zeros(2)},
    "a curve that is too short": {"validation_loss": np.zeros((1, 2))},
    "more meta-iterations than there are": {"meta_iteration": np.array([11])},
    "fewer than none": {"meta_iteration": np.array([-1])},
    "no count": {"meta_iteration": None},
    "two counts": {"meta_iteration": np.array([5, 5])},
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_checkpoint_that_cannot_be_one_is_reported_and_not_used(name, tmp_path, capsys):
    path = file(tmp_path, MIDDLE, **IMPOSSIBLE[name])
    assert states.read_checkpoint(path, GIVEN, header()) is None
    assert str(path) in capsys.readouterr().err


def test_a_damaged_checkpoint_is_reported_and_not_used(tmp_path, capsys):
    path = file(tmp_path, MIDDLE)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-5] + b"\0\1\2\3\4", b"", b"{}"):
        path.write_bytes(damaged)
        assert states.read_checkpoint(path, GIVEN, header()) is None
        assert "restarted from the beginning" in capsys.readouterr().err


# What was learned, for an evaluation.


def test_theta_is_read_with_the_digest_of_its_record(tmp_path):
    path = file(tmp_path)
    theta, content = states.read_theta(path, evaluation(), SEEDS)
    assert torch.equal(theta, LAST.theta)
    assert content == artifacts.read_header(path)["content"]


def test_theta_meets_any_protocol(tmp_path):
    """A stored initialization is evaluated under whatever protocol comes later."""
    other = EvaluatedProtocol(
        shots=3, support=(-1.0, 1.0), updates=1, tasks={"amplitude": (1.0, 2.0)}, noise=0.3
    )
    path = file(tmp_path)
    for changes in (
        {"protocols": {"new": other}},
        {"bank": 7},
        {"common_step_size": 0.5},
        {"showcase": {"amplitude": 1.0, "phase": 0.0}},
    ):
        theta, _ = states.read_theta(path, evaluation(**changes), SEEDS)
        assert torch.equal(theta, LAST.theta)


def test_theta_of_a_cell_with_training_tasks_of_its_own_is_taken(tmp_path):
    few = settings(tasks=GIVEN.tasks.model_copy(update={"training_tasks": 5}))
    path = file(tmp_path, every_state(few)[-1], header(few))
    assert states.read_theta(path, evaluation(), SEEDS)[0].shape == (2, 19)


OTHERS = {
    "algorithm": {"algorithm": "maml"},
    "hyperparameters": {"hyperparameters": {"meta_optimizer": "adam", "inner_step_size": 0.5}},
    "network": {"network": {"hidden": [6], "activation": "relu"}},
    "tasks": {"tasks": GIVEN.tasks.model_copy(update={"amplitude": (1.0, 2.0)})},
}


@pytest.mark.parametrize("key", OTHERS)
def test_theta_of_another_job_is_refused_with_what_differs(key, tmp_path):
    path = file(tmp_path)
    with pytest.raises(ArtifactError, match=f"{path} was produced with a different {key}"):
        states.read_theta(path, evaluation(**dict(OTHERS[key])), SEEDS)


def test_theta_of_other_seeds_or_of_no_training_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="different seeds: expected 2-3, found 0-1"):
        states.read_theta(file(tmp_path), evaluation(), "2-3")
    evaluated = headers.evaluation(evaluation(), SEEDS, "torch", "")
    with pytest.raises(ArtifactError, match="different kind"):
        states.read_theta(file(tmp_path, head=evaluated), evaluation(), SEEDS)


def test_theta_of_an_unfinished_training_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="is a checkpoint after 5 of 8 meta-iterations"):
        states.read_theta(file(tmp_path, MIDDLE), evaluation(), SEEDS)


@pytest.mark.parametrize(
    "theta", [None, np.zeros((2, 20), np.float32), np.zeros((3, 19), np.float32), np.zeros((2, 19))]
)
def test_a_theta_that_the_algorithm_cannot_have_learned_is_refused(theta, tmp_path):
    with pytest.raises(ArtifactError, match=r"must hold theta float32 \(2, 19\)"):
        states.read_theta(file(tmp_path, theta=theta), evaluation(), SEEDS)


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"none\.safetensors"):
        states.read_theta(tmp_path / "none.safetensors", evaluation(), SEEDS)
