"""A list in place of a single value gives each of its values, and lists their product."""

import pytest

from metabench.learning.settings import NetworkSettings
from metabench.study import grids
from metabench.study.config import ConfigError
from metabench.study.schema import StudyProtocol

BOTH = {"shots": [5, 10], "support": [[-5, 5], [0, 5]]}


def test_the_points_of_a_grid_are_the_product_of_its_lists_in_their_order():
    assert list(grids.points(StudyProtocol, {**BOTH, "updates": 3})) == [
        {"shots": 5, "support": [-5, 5], "updates": 3},
        {"shots": 5, "support": [0, 5], "updates": 3},
        {"shots": 10, "support": [-5, 5], "updates": 3},
        {"shots": 10, "support": [0, 5], "updates": 3},
    ]


@pytest.mark.parametrize(
    ("key", "value", "values"),
    [
        ("shots", 5, [5]),
        ("shots", [5], [5]),
        ("support", [-5, 5], [[-5, 5]]),
        ("support", [[-5, 5]], [[-5, 5]]),
        ("domain", None, [None]),
        ("domain", [None, [-5, 5]], [None, [-5, 5]]),
        ("steps", ["own", "common"], [["own", "common"]]),
        ("steps", [["own"], ["own", "common"]], [["own"], ["own", "common"]]),
        ("an unknown key", [1, 2], [1, 2]),
    ],
)
def test_the_type_of_a_key_says_whether_a_list_is_one_value(key, value, values):
    assert grids.values(StudyProtocol, key, value) == values


def test_a_list_of_one_value_is_a_grid_of_one_point_that_varies():
    assert grids.varied(StudyProtocol, {"shots": [5], "support": [0, 5]}) == ["shots"]


def test_the_size_of_a_grid_is_known_without_its_points():
    many = {key: [*range(10_000)] for key in ("shots", "updates", "queries")}
    assert grids.size(StudyProtocol, many) == 10**12
    assert grids.size(StudyProtocol, BOTH) == 4
    assert grids.size(NetworkSettings, {"hidden": [64, 64, 64]}) == 1
    assert grids.size(NetworkSettings, {}) == 1


def test_what_is_known_already_holds_for_each_point_unless_the_grid_says_otherwise():
    known = {"hidden": [8], "activation": "relu"}
    found = grids.checked(NetworkSettings, {"hidden": [[1], [2]]}, "network", known)
    assert [(n.hidden, n.activation) for n in found] == [((1,), "relu"), ((2,), "relu")]


def test_each_list_that_is_no_list_of_values_is_named():
    with pytest.raises(ConfigError) as caught:
        grids.require_lists(StudyProtocol, {"shots": [], "updates": [1, 1], "queries": [1]}, "p")
    assert str(caught.value).split("\n") == [
        "a list of values must have one or more, each once; got [] (p.shots)",
        "a list of values must have one or more, each once; got [1, 1] (p.updates)",
    ]
