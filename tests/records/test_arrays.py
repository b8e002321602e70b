"""The declared arrays match those that training, evaluation and the baselines return."""

from pathlib import Path

import numpy as np
import pytest
import small

from metabench.learning import algorithms, baselines, evaluation, settings, training
from metabench.learning.tasks import PlaneWaveDistribution, SineDistribution
from metabench.records import arrays, states
from metabench.records.artifacts import ArtifactError

HIDDEN = {"hidden": [6]}
SEEDS = (0, 1, 2)
HERE = Path("results/tiny/evaluate/there.safetensors")
every_algorithm = pytest.mark.parametrize("algorithm", algorithms.NAMES)


def protocol(**more):
    given = {"shots": 3, "support": (0.0, 5.0), "updates": 2, **more}
    return settings.EvaluatedProtocol(**given)


PROTOCOLS = {
    "usual": protocol(),
    "whole": protocol(support=(-5.0, 5.0), updates=4),
    "fresh": protocol(queries=7),
    "noisy": protocol(noise=0.2, domain=(-8.0, 8.0)),
}


def evaluate_settings(algorithm, **changes):
    return small.evaluate_settings(
        algorithm, **{"protocols": PROTOCOLS, "network": HIDDEN, "bank": 9, **changes}
    )


def initial_theta(given):
    """What each seed begins with, float32."""
    value = algorithms.load(given.algorithm)
    return value.begin(given.shape, SEEDS, given.hyperparameters).float()


def evaluated(given, theta=None):
    """The arrays of an evaluation."""
    theta = initial_theta(given) if theta is None else theta
    found = evaluation.evaluate(given, theta, algorithms.load(given.algorithm))
    return states.from_tensors(found)


def assert_declared(found, declared):
    wanted = {name: (array.dtype, shape) for name, (array, shape) in declared.items()}
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == wanted
    arrays.hold(HERE, found, declared)


# What is returned is what is declared.


@every_algorithm
def test_an_evaluation_returns_the_declared_arrays_and_no_other(algorithm):
    given = evaluate_settings(algorithm)
    assert_declared(evaluated(given), arrays.evaluation(given, len(SEEDS)))


@pytest.mark.parametrize("steps", [("own", "own x 4"), ("tuned",), ("common", "tuned", "own")])
def test_an_evaluation_with_other_step_rules_returns_the_declared_arrays(steps):
    given = evaluate_settings(
        "fomaml", protocols={"p": protocol(steps=steps)}, tuning_step_sizes=(0.01, 0.02, 0.04)
    )
    found = evaluated(given)
    assert_declared(found, arrays.evaluation(given, len(SEEDS)))
    assert {f"test/p/{step}" for step in steps} == {n for n in found if n.startswith("test/")}
    assert ("tuning/p" in found) == ("tuned" in steps)


def test_an_evaluation_on_two_inputs_returns_the_declared_arrays():
    given = evaluate_settings("reptile", tasks=PlaneWaveDistribution(grid_points=6))
    assert_declared(evaluated(given), arrays.evaluation(given, len(SEEDS)))


@every_algorithm
@pytest.mark.parametrize("done", [0, 4, 10, 12])
def test_training_returns_the_declared_arrays_whenever_it_is_stopped(algorithm, done):
    iterations = 0 if algorithm == "random" else done
    given = small.train_settings(algorithm, iterations, network=HIDDEN)
    state = training.train(given, SEEDS, algorithms.load(algorithm))
    declared = arrays.state(given, len(SEEDS), iterations)
    assert_declared(states.from_state(state), declared)
    assert set(declared) == set(training.State._fields)


@pytest.mark.parametrize(("optimizer", "moments"), [("sgd", 0), ("adam", 2)])
def test_what_the_outer_optimizer_remembers_is_declared(optimizer, moments):
    given = small.train_settings(
        "fomaml", 2, network=HIDDEN, hyperparameters={"meta_optimizer": optimizer}
    )
    _, shape = arrays.state(given, 3, 2)["memory"]
    assert shape == (moments, 3, given.shape.parameters)
    state = training.train(given, SEEDS, algorithms.load("fomaml"))
    assert_declared(states.from_state(state), arrays.state(given, 3, 2))


@pytest.mark.parametrize(
    "tasks",
    [SineDistribution(), SineDistribution(frequency=(0.5, 2.0)), PlaneWaveDistribution()],
    ids=["sine", "sine of frequencies", "plane wave"],
)
def test_the_baselines_return_the_declared_arrays_and_no_other(tasks):
    protocols = {
        name: settings.BaselineProtocol(
            **given.model_dump(exclude={"steps", "curve"}), gaussian_process_length_scale=2.0
        )
        for name, given in PROTOCOLS.items()
    }
    known = small.baseline_settings(protocols, bank=9, tasks=tasks)
    found = states.from_tensors(baselines.evaluate(known))
    assert_declared(found, arrays.of_baselines(known))


def test_a_protocol_with_tasks_of_a_family_without_a_basis_has_no_least_squares():
    mixed = {"family": "sine", "frequency": (0.5, 2.0)}
    protocols = {
        name: settings.BaselineProtocol(
            shots=3, support=(0.0, 5.0), updates=1, tasks=tasks, gaussian_process_length_scale=2.0
        )
        for name, tasks in (("usual", None), ("frequencies", mixed))
    }
    known = small.baseline_settings(protocols)
    declared = arrays.of_baselines(known)
    assert "test/usual/least-squares" in declared
    assert "test/frequencies/least-squares" not in declared
    assert_declared(states.from_tensors(baselines.evaluate(known)), declared)


# The check of a file's arrays.


def test_arrays_that_are_not_the_declared_ones_are_refused_with_the_name_of_the_first():
    given = evaluate_settings("fomaml")
    found, declared = evaluated(given), arrays.evaluation(given, len(SEEDS))
    name = "test/usual/own"
    wrong = {
        "is missing": {n: a for n, a in found.items() if n != name},
        "has another type": found | {name: found[name].astype(np.float64)},
        "has a run less": found | {name: found[name][:, :, 1:]},
        "has its axes exchanged": found | {name: found[name].swapaxes(2, 3)},
    }
    for what, instead in wrong.items():
        with pytest.raises(ArtifactError, match=rf"{HERE} is no record.*{name} must be") as caught:
            arrays.hold(HERE, instead, declared)
        assert "delete the file and run the study again" in str(caught.value), what
    with pytest.raises(ArtifactError, match="test/usual/mine must be None"):
        arrays.hold(HERE, found | {"test/usual/mine": found[name]}, declared)


# Joining.


def test_joined_blocks_of_seeds_are_what_all_seeds_at_once_give():
    given = evaluate_settings("random", tuning_step_sizes=(0.01, 0.02))
    theta, declared = initial_theta(given), arrays.evaluation(given, len(SEEDS))
    blocks = [evaluated(given, theta[:1]), evaluated(given, theta[1:])]
    joined = arrays.join(blocks, declared)
    assert_declared(joined, declared)
    for name, array in evaluated(given, theta).items():
        assert array.tobytes() == joined[name].tobytes(), name


def test_every_declared_array_is_joined_along_its_runs():
    """Axes of equal length would hide that blocks are joined along the wrong one."""
    sizes = {"run": 2, "region": 2, "update": 2, "test task": 2, "validation task": 2}
    sizes |= {"candidate": 2, "picture update": 2, "picture point": 2, "learned": 2, "moment": 2}
    sizes |= {"evaluation": 2, "one": 1}
    known = (*arrays.STATE, *arrays.OF_STEPS, arrays.TUNING, arrays.SHOWCASE)
    declared = {array.name: (array, array.shape(sizes)) for array in known}
    blocks = []
    for n in range(3):
        block = {}
        for name, (array, shape) in declared.items():
            block[name] = np.full(shape, n, dtype=array.dtype)
        blocks.append(block)
    for name, found in arrays.join(blocks, declared).items():
        axes = declared[name][0].axes
        if "run" not in axes:
            assert (found == 0).all(), "what has no runs is that of the first block"
            continue
        run = axes.index("run")
        assert found.shape[run] == 6, name
        along = np.moveaxis(found, run, 0)
        for n in range(3):
            assert (along[2 * n : 2 * n + 2] == n).all(), name


def test_learned_counts_what_an_algorithm_learns_and_not_its_network():
    for algorithm, more in (("fomaml", 0), ("ridge", 1), ("meta_sgd", 19)):
        given = evaluate_settings(algorithm)
        assert given.shape.parameters == 19
        assert arrays.learned(given) == 19 + more


def test_an_array_without_a_declared_axis_cannot_be_made_a_shape():
    with pytest.raises(KeyError, match="colour"):
        arrays.Array("test", ("run", "colour"), "float32").shape({"run": 3})
