"""The algorithm checks: our algorithms pass them, and each wrong one is caught by its check."""

from typing import Annotated, Literal

import pytest
import small
from click.testing import CliRunner
from pydantic import Field

from metabench import check_algorithm, cli
from metabench.check_algorithm import directions, subject, surroundings
from metabench.check_algorithm.subject import NotHeldError, Subject
from metabench.learning import algorithms
from metabench.learning.hyperparameters import Hyperparameters

PROX = str(small.ROOT / "examples" / "prox.py")
OTHERS = sorted(str(path) for path in (small.ROOT / "tests" / "right").glob("*.py"))
RIGHT = (*algorithms.NAMES, PROX, *OTHERS)
every_right_one = pytest.mark.parametrize("name", RIGHT, ids=algorithms.name)

IN_FLOAT32 = [
    directions.returns_the_right_shape,
    directions.is_deterministic,
    directions.notices_no_neighbour,
    directions.learns_something,
]
IN_FLOAT32 += [
    check
    for check in check_algorithm.CHECKS
    if check.__module__.endswith((".predictions", ".trainings", ".surroundings"))
]
IN_FLOAT32.remove(surroundings.is_the_same_in_every_process)  # for all at once below
IN_FLOAT64 = [
    check
    for check in check_algorithm.CHECKS
    if check not in (*IN_FLOAT32, surroundings.is_the_same_in_every_process)
]
"""What the kernel has no part in: it computes in float32."""


def named(check):
    return check.__name__


@every_right_one
@pytest.mark.parametrize("check", IN_FLOAT64, ids=named)
def test_every_algorithm_conforms(name, check):
    check(Subject(name))


@every_right_one
@pytest.mark.parametrize("check", IN_FLOAT32, ids=named)
def test_every_algorithm_conforms_on_each_engine(name, check, each_engine):
    check(Subject(name))


@pytest.mark.slow
def test_every_algorithm_computes_the_same_in_every_process(each_engine):
    here = {name: surroundings.digest(Subject(name)) for name in RIGHT}
    first, second = surroundings.digests_elsewhere(RIGHT)
    assert first == here and second == here


WRONG = {
    "adapts_anew": ("predicts_with_what_it_learned", "do not depend on what was learned"),
    "always_one_step": ("uses_each_hyperparameter", "inner_steps changes nothing in training"),
    "always_the_first_block": ("draws_labels_of_its_tasks", "not those of their task"),
    "always_the_grid": ("uses_each_hyperparameter", "queries changes nothing in training"),
    "always_the_same": ("draws_labels_of_its_tasks", "not those of their task"),
    "another_mean": ("predicts_one_distribution", "is not what is predicted after the last"),
    "another_runs_tasks": ("notices_no_neighbour", "a different meta_gradient next to other runs"),
    "another_tasks_query": ("draws_labels_of_its_tasks", "450 of 450 labels"),
    "another_tasks_support": ("has_no_favourite_task", "is used for another"),
    "begins_alike": ("begins_with_its_seed", "each seed its own numbers"),
    "changes_its_data": ("returns_the_right_shape", "must not change its data"),
    "cheap": ("counts_its_cost", "150 point-gradients a meta-iteration; counted were 9 and 180"),
    "climbs": ("adapts_in_training_as_in_evaluation", "does not adapt as evaluation does"),
    "climbs_at_test_time": ("adapts_downhill", "does not fall with each update"),
    "clipped_labels": ("learns_from_every_point", "labels of the support set change nothing"),
    "constant": ("predicts_with_what_it_learned", "do not depend on x"),
    "decays": ("learns_from_every_task", "labels of task 0 of 3 change nothing"),
    "descends_as_another": ("descends_along_its_direction", "differs from steps along"),
    "does_not_adapt": ("moves_with_its_steps", "update 1 changes no prediction"),
    "double_precision": ("returns_the_right_shape", "must keep the type torch.float32"),
    "falsely_plain": ("is_plain_where_it_says_so", "not gradient descent from theta"),
    "first_mini_batch": ("learns_from_every_point", "5 of 10 places"),
    "forgets_a_task": ("learns_from_every_task", "labels of task 0 of 3 change nothing"),
    "frozen_head": ("moves_every_number", "17 of the 321 numbers"),
    "global_generator": ("leaves_global_states_alone", "depend on a global random state"),
    "half_of_the_support": ("learns_from_every_point", "3 of 5 places of the support set"),
    "hardly_moves": ("trains_to_finite_losses", "theta has not moved"),
    "hashes": ("is_the_same_in_every_process", "PYTHONHASHSEED gives different numbers"),
    "idle_hyperparameter": ("uses_each_hyperparameter", "strength changes nothing"),
    "ignores_the_multiple": ("begins_with_inner_step_size", "2 times its own step size"),
    "ignores_the_step_size": ("moves_with_its_steps", "that it is given changes no prediction"),
    "knows_sgd_alone": ("fits_the_outer_optimizers", "adam"),
    "last_alone": ("predicts_every_update", r"must return \(4, 3, 4, 50, 1\)"),
    "last_task": ("learns_from_every_task", "labels of task 0 of 3 change nothing"),
    "leaks": ("notices_no_neighbour", "a different meta_gradient next to other runs"),
    "moves_away": ("learns", "does not fall in 200 meta-iterations"),
    "negated_labels": ("draws_labels_of_its_tasks", "not those of their task"),
    "negative_variance": ("predicts_one_distribution", "every variance must be positive"),
    "no_docstring": ("says_what_it_does", "begin with a docstring"),
    "no_help": ("declares_its_hyperparameters", r"strength needs a description: Annotated\[float,"),
    "no_iterations": ("samples_whole_blocks", "the first axis must be the iteration"),
    "one_feature": ("works_with_other_networks_and_tasks", "family plane-wave"),
    "one_size_for_all": ("gives_each_run_its_step_size", "the step size of another"),
    "one_step_too_many": ("adapts_in_training_as_in_evaluation", "does not adapt as evaluation"),
    "one_support_point": ("adapts_to_every_support_point", "the place of support point 1"),
    "one_update": ("moves_with_its_steps", "update 2 changes no prediction"),
    "one_update_ahead": ("predicts_each_point_by_itself", "before the first update"),
    "opposite_sign": ("learns", "does not fall in 200 meta-iterations"),
    "opposite_sign_alone": ("learns", "with Adam and meta_batch_size 1"),
    "peeks": ("does_not_peek", "has seen the query labels"),
    "pools_support": ("adapts_in_training_as_in_evaluation", "does not adapt as evaluation does"),
    "query_is_support": ("keeps_query_and_support_apart", "every query point is a support point"),
    "query_unused": ("learns_from_every_point", "labels? of the query set|places of the query set"),
    "query_within_support": ("keeps_query_and_support_apart", "is a support point"),
    "random_at_import": ("is_the_same_in_every_process", "process"),
    "remembers": ("resumes_from_a_checkpoint", "ends with different parameters"),
    "scales_itself": ("leaves_the_outer_step_to_the_outer_loop", "depends on meta_step_size"),
    "seeds_globally": ("leaves_global_states_alone", "is changed"),
    "sees_all_questions": ("predicts_each_point_by_itself", "depends on the other query points"),
    "shuffled_labels": ("draws_labels_of_its_tasks", "36 of 45 labels"),
    "support_unused": ("learns_from_every_point", "places of the support set change nothing"),
    "swaps_sets": ("does_not_peek", "has seen the query labels"),
    "takes_a_key": ("declares_its_hyperparameters", "network already has a meaning"),
    "too_long": ("trains_to_finite_losses", "theta is not finite"),
    "towards_zero": ("stops_where_nothing_is_left_to_learn", "1 times as long"),
    "twice_its_step": ("begins_with_inner_step_size", "is not a step size of 0.02"),
    "weighs_tasks": ("has_no_favourite_task", "they are weighted differently"),
    "wrong_shape": ("returns_the_right_shape", r"shape \(3, 321\); got \(3, 3, 321\)"),
    "zeros": ("learns_something", "nothing is learned"),
    "zeros_now_and_then": ("learns_something", "nothing is learned"),
}
"""The files of tests/wrong, each with the check that catches it and a part of what it says."""

CHECKS = {check.__name__: check for check in check_algorithm.CHECKS}


def wrong(name):
    """The file of a wrong algorithm."""
    return str(small.ROOT / "tests" / "wrong" / f"{name}.py")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_algorithm_is_caught_by_the_check_for_it(name):
    check, message = WRONG[name]
    with pytest.raises((NotHeldError, KeyError), match=message):
        CHECKS[check](Subject(wrong(name)))


def test_every_wrong_algorithm_is_tried():
    assert {path.stem for path in (small.ROOT / "tests" / "wrong").glob("*.py")} == set(WRONG)


def test_every_check_catches_something():
    caught = {check for check, _ in WRONG.values()} | {"is_deterministic"}
    assert caught == set(CHECKS)


def test_an_algorithm_that_remembers_is_not_deterministic():
    with pytest.raises(NotHeldError, match="gave different numbers for the same arguments"):
        directions.is_deterministic(Subject(wrong("remembers")))


# What a person sees.


def command(*arguments):
    return CliRunner().invoke(cli.main, ["check-algorithm", *arguments])


def test_the_command_reports_each_check_and_what_is_wrong():
    result = command(wrong("last_task"))
    assert result.exit_code == 1
    assert (
        "WRONG The direction of a run changes with the labels of each of its tasks" in result.output
    )
    assert "learns_from_every_task: the labels of task 0 of 3 change nothing" in result.output
    assert f"1 of {len(CHECKS)} checks fail" in result.output


def test_the_command_ends_with_a_check_that_all_others_need():
    result = command(wrong("no_iterations"))
    assert result.exit_code == 1
    assert "1 of 3 checks fail" in result.output
    assert "WRONG" in result.output and "IndexError" not in result.output


def test_the_command_says_that_all_is_well():
    result = command("joint")
    assert result.exit_code == 0
    assert f"joint: all {len(CHECKS)} checks pass" in result.output


def test_an_algorithm_that_cannot_be_loaded_is_reported_in_one_line():
    result = command("fomalm")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "metabench: unknown algorithm 'fomalm'; choose from alpaca, anil"
    )
    assert len(result.stderr.splitlines()) == 1


def test_a_check_that_an_algorithm_makes_fail_is_reported_and_not_raised(tmp_path):
    source = small.ROOT / "tests" / "wrong" / "last_task.py"
    (path := tmp_path / "fails.py").write_text(
        source.read_text().replace("gradient[:, -1]", "1 / 0")
    )
    *_, last = check_algorithm.findings(str(path))
    assert last.check == "returns_the_right_shape"
    assert last.wrong == "ZeroDivisionError: division by zero"


# Remarks.


@pytest.mark.parametrize("name", algorithms.NAMES)
def test_no_algorithm_of_the_package_equals_another(name):
    assert not [line for line in check_algorithm.remark_lines(name) if "equal to" in line]


COPY = """
import metabench
from metabench.learning.algorithms import {name}

def meta_gradient(network, theta, batch, h):
    return {factor} * {name}.meta_gradient(network, theta, batch, h)

given = {name}.ALGORITHM
ALGORITHM = metabench.Algorithm(given.hyperparameters, given.cost, given.sample, meta_gradient)
"""


@pytest.mark.parametrize("name", ["fomaml", "reptile"])
def test_a_copy_is_said_to_equal_its_original(tmp_path, name):
    (path := tmp_path / "copy.py").write_text(COPY.format(name=name, factor=1))
    message = list(check_algorithm.remark_lines(str(path)))
    assert f"equal to {name} to the last digit: direction and predictions" in message
    assert any("imports from metabench.learning.algorithms, which may move" in s for s in message)


def test_a_multiple_of_an_algorithm_is_said_to_be_one(tmp_path):
    (path := tmp_path / "copy.py").write_text(COPY.format(name="fomaml", factor=0.5))
    message = list(check_algorithm.remark_lines(str(path)))
    assert "its direction is that of fomaml times 0.5, up to rounding" in message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("maml_plus_plus", "with two inner steps, the direction is not that of the query loss"),
        (wrong("pools_support"), "neither the sum nor the mean of those of its tasks"),
        (wrong("last_task"), "cost says 240 point-gradients; counted were 180"),
        ("fomaml", "not the exact gradient of the query loss after adaptation"),
        (wrong("climbs"), "not the exact gradient of the query loss after adaptation"),
    ],
)
def test_what_is_no_mistake_is_remarked(name, message):
    assert any(message in line for line in check_algorithm.remark_lines(name))


@pytest.mark.parametrize(
    "name",
    ("alpaca", "anil", "cavia", "deep_kernel", "joint", "maml", "meta_sgd", "ridge", PROX),
)
def test_nothing_is_remarked_of_an_exact_gradient_and_of_what_has_no_query_set(name):
    assert list(check_algorithm.remark_lines(name)) == []


MAML_THE_WRONG_WAY_ROUND = """
import metabench
from metabench import path
from metabench.learning.algorithms.maml import *

def meta_gradient(network, theta, batch, h):
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    *before, adapted = path(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    _, v = network.loss_and_gradient(adapted, *query)
    for phi in reversed(before):
        v = v + h.inner_step_size * network.hessian_product(phi, *support, v)
    return v.sum(-2)

ALGORITHM = metabench.Algorithm(
    Hyperparameters, second_order_cost, support_and_query, meta_gradient
)
"""


def test_a_mistake_in_the_second_order_shows_since_the_direction_is_not_exact(tmp_path):
    (path := tmp_path / "other_sign.py").write_text(MAML_THE_WRONG_WAY_ROUND)
    assert any("not the exact gradient" in line for line in check_algorithm.remark_lines(str(path)))


# Other hyperparameters.


class Settings(Hyperparameters):
    required: Annotated[float, Field(ge=2, le=3)]
    whole: Annotated[int, Field(ge=1, le=7)] = 7
    small: Annotated[float, Field(gt=0, le=1)] = 0.9
    flag: bool = False
    choice: Literal["one", "two", "three"] = "two"
    optional: int | None = None
    sizes: tuple[int, ...] = (3, 4)


def test_every_hyperparameter_is_tried_with_another_value_that_its_type_allows(monkeypatch):
    algorithm = algorithms.load("random")
    changed = type(algorithm)(Settings, algorithm.cost, algorithm.sample, algorithm.meta_gradient)
    monkeypatch.setattr(subject.algorithms, "load", lambda name: changed)
    trial = Subject("any")
    assert trial.h.required == 2 and trial.h.choice == "two"
    tried = {
        name: [getattr(other.h, name) for other in trial.others(name)]
        for name in Settings.model_fields
    }
    assert tried == {
        "required": [3.0],
        "whole": [6],
        "small": [0.45],
        "flag": [True],
        "choice": ["one", "three"],
        "optional": [7],
        "sizes": [(3, 4, 4)],
    }
