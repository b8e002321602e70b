"""The step sizes with which an algorithm is evaluated under a protocol."""

import pytest
import small

from metabench.learning import algorithms, evaluation
from metabench.learning.settings import step_rule
from metabench.records import arrays

WANTED = ("own", "own x 4", "common", "fixed 0.05")


@pytest.mark.parametrize(
    ("algorithm", "wanted", "rules"),
    [
        ("reptile", None, ("own", "common")),
        ("reptile", WANTED, WANTED),
        ("reptile", ("tuned",), ("tuned",)),
        ("random", None, ("common", "tuned")),
        ("random", WANTED, ("common", "fixed 0.05")),
        ("random", ("own", "own x 4"), ("tuned",)),  # it has neither
        ("ridge", None, ("own",)),
        ("ridge", WANTED, ("own",)),  # it takes no gradient steps
    ],
)
def test_a_step_rule_applies_where_an_algorithm_has_such_steps(algorithm, wanted, rules):
    assert algorithms.load(algorithm).adaptation.rules(wanted) == rules


RIDGE = {"algorithm": "ridge", "meta_iterations": 0, "meta_step_size": 0.1}
FOMAML = {"algorithm": "fomaml", "meta_iterations": 0, "meta_step_size": 0.1}
FOMAML |= {"inner_step_size": 0.01}


@pytest.mark.parametrize("group", [small.RANDOM, RIDGE, FOMAML], ids=lambda g: g["algorithm"])
def test_every_algorithm_is_evaluated_under_a_protocol_with_step_rules(group):
    protocol = {"shots": 5, "support": [0, 5], "updates": 2, "gaussian_process_length_scale": 1.0}
    protocol["steps"] = ["own", "own x 4", "common", "tuned", 0.05]
    study = small.study(small.tiny(cells=[group], protocols={"robustness": protocol})).check()
    (cell,) = study.cells
    settings = study.evaluate_settings(cell, "robustness")
    theta = cell.value.begin(settings.shape, (0, 1), settings.hyperparameters).float()
    found = evaluation.evaluate(settings, theta, cell.value)
    declared = arrays.evaluation(settings, 2)
    assert {name: tuple(array.shape) for name, array in found.items()} == {
        name: shape for name, (_, shape) in declared.items()
    }


def test_a_multiple_of_the_own_step_is_that_step_size():
    protocol = {"shots": 5, "support": [0, 5], "updates": 2, "gaussian_process_length_scale": 1.0}
    protocol["steps"] = ["own x 5", 0.05]
    study = small.study(small.tiny(cells=[FOMAML], protocols={"robustness": protocol}))
    (cell,) = study.cells
    settings = study.evaluate_settings(cell, "robustness")
    theta = cell.value.begin(settings.shape, (0, 1), settings.hyperparameters).float()
    found = evaluation.evaluate(settings, theta, cell.value)
    multiple, number = (found[f"test/robustness/{rule}"] for rule in ("own x 5", "fixed 0.05"))
    assert multiple.equal(number)


@pytest.mark.parametrize("text", ["own x 4", "fixed 0.05", "fixed 1e-05", "own", "tuned"])
def test_the_name_of_a_step_rule_never_looks_like_a_number(text):
    assert step_rule(text)
    with pytest.raises(ValueError, match="could not convert"):
        float(text)
