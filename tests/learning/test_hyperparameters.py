"""The declarations of hyperparameters, and their form in a cell's name."""

import pytest
import small
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from metabench.learning import algorithms
from metabench.learning.hyperparameters import Hyperparameters, InnerLoop, OuterLoop, value_text

every_algorithm = pytest.mark.parametrize("algorithm", algorithms.NAMES)


def declared(algorithm):
    return algorithms.load(algorithm).hyperparameters


@every_algorithm
def test_every_hyperparameter_says_what_it_is(algorithm):
    for name, field in declared(algorithm).model_fields.items():
        assert field.description and field.description.endswith("."), name


@every_algorithm
def test_no_two_values_of_an_algorithm_could_be_told_by_the_same_words(algorithm):
    """Only rules and schedules go without a word, and no rule is called like a schedule."""
    fields, words = declared(algorithm).model_fields, declared(algorithm).words()
    texts = [word for word in words.values() if word and word != "inner"]
    assert len(set(texts)) == len(texts)
    silent = {name for name, word in words.items() if not word}
    assert silent <= {"meta_optimizer", "meta_schedule"}
    inner = {name for name, word in words.items() if word == "inner"}
    assert inner <= {"inner_step_size", "inner_optimizer"}, "a number and a rule"
    assert words.keys() == fields.keys()


def test_what_trains_has_an_outer_loop_and_what_does_not_has_none():
    assert [n for n in algorithms.NAMES if not issubclass(declared(n), OuterLoop)] == ["random"]
    assert declared("random").model_fields == {}


@every_algorithm
def test_an_algorithm_reads_an_inner_step_size_just_where_it_has_a_step_of_its_own(algorithm):
    steps = algorithms.load(algorithm).adaptation.steps
    takes_own_steps = "own" in steps and len(steps) > 1
    assert issubclass(declared(algorithm), InnerLoop) == takes_own_steps


def test_a_name_says_what_has_no_default_first_and_then_what_differs():
    h = declared("reptile")(inner_step_size=0.02, meta_step_size=0.1)
    assert list(h.name_parts()) == ["inner 0.02", "meta 0.1"]
    other = h.model_copy(update={"inner_steps": 3, "meta_schedule": "linear"})
    assert list(other.name_parts()) == ["inner 0.02", "meta 0.1", "linear", "steps 3"]
    fresh = declared("fomaml")(inner_step_size=1, meta_step_size=0.01, queries=8)
    assert list(fresh.name_parts()) == ["inner 1", "meta 0.01", "queries 8"]
    assert list(declared("random")().name_parts()) == []


def test_hyperparameters_are_checked_and_cannot_be_changed():
    for wrong in ({"inner_step_size": 0}, {"shots": 0}, {"meta_optimizer": "lion"}, {"colour": 1}):
        with pytest.raises(ValidationError):
            declared("reptile")(**{"inner_step_size": 0.02, "meta_step_size": 0.1, **wrong})
    with pytest.raises(ValidationError):
        small.published("fomaml").hyperparameters.shots = 3


@given(st.lists(st.floats(1e-12, 1e6), min_size=2, max_size=2, unique=True))
def test_two_numbers_are_never_written_alike(values):
    assert value_text(values[0]) != value_text(values[1])


@given(st.floats(1e-12, 1e6))
def test_a_number_is_read_back_from_its_spelling(value):
    assert float(value_text(value)) == value


def test_a_hyperparameter_without_a_word_is_called_by_its_name():
    class Mine(Hyperparameters):
        pull_back: float = 0.5

    assert Mine.words() == {"pull_back": "pull back"}
    assert list(Mine(pull_back=0.25).name_parts()) == ["pull back 0.25"]
