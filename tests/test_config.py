import copy
from collections.abc import Mapping
from datetime import date

import pytest
import small
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from metabench import config, plans
from metabench.config import ConfigError

DELETE = object()


def changed(place, value):
    """The content of config/flux.yaml with one entry replaced, added or deleted: ("cells", 0, "shots")."""
    content = small.content()
    *parents, last = place
    node = content
    for part in parents:
        node = node[part]
    if value is DELETE:
        del node[last]
    else:
        node[last] = value
    return content


def complaint(content):
    """The one line that a study is refused with."""
    with pytest.raises(ConfigError) as caught:
        plans.cells(config.parse(content, "study.yaml"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Where, what comes instead, and what the message must name: the key, the value, what is allowed.
MISTAKES = {
    "an unknown key": (("seds",), 3, ["'seds'", "choose from", "seeds"]),
    "an unknown key of a section": (("evaluation", "task"), 3, ["'task'", "choose from", "common_step_size, tasks"]),
    "an unknown key of a group": (("cells", 1, "shot"), 3, ["'shot'", "cells[1].shot", "choose from", "shots"]),
    "an unknown key of a protocol": (("protocols", "standard", "step"), 1, ["'step'", "protocols.standard", "updates"]),
    "an unknown key of published": (("cells", 0, "published", "shots"), 1, ["'shots'", "inner_step_size"]),
    "a missing key": (("protocols", "standard", "shots"), DELETE, ["missing key 'shots'", "protocols.standard"]),
    "no study": (("study",), DELETE, ["missing key 'study'"]),
    "a number as text": (("seeds",), "3", ["seeds", "'3'", "integer"]),
    "a step size as text": (("cells", 0, "meta_step_size"), "1e-4", ["meta_step_size", "'1e-4'", "number"]),
    "a truth value for a number": (("seeds",), True, ["seeds", "True", "integer"]),
    "a truth value for a step size": (("evaluation", "common_step_size"), True, ["common_step_size", "True", "number"]),
    "a fraction for a number": (("seeds",), 2.5, ["seeds", "2.5", "integer"]),
    "null for a number": (("seeds",), None, ["seeds", "None", "integer"]),
    "a list for a number": (("seeds",), [1, 2], ["seeds", "[1, 2]", "integer"]),
    "a list for a section": (("tasks",), [1, 2], ["tasks", "[1, 2]"]),
    "a number for a name": (("study",), 3, ["study", "3", "string"]),
    "an unknown algorithm": (
        ("cells", 1, "algorithm"),
        "reptil",
        ["algorithm", "'reptil'", "choose from", "'fomaml', 'joint', 'random', 'reptile'", "cells[1].algorithm"],
    ),
    "an unknown activation": (("network", "activation"), "sigmoid", ["activation", "'sigmoid'", "'tanh', 'relu'"]),
    "a negative step": (("cells", 0, "inner_step_size"), -0.02, ["inner_step_size", "-0.02", "greater than 0"]),
    "a step of zero in a list": (("cells", 0, "inner_step_size"), [0.01, 0], ["inner_step_size", "greater than 0"]),
    "an empty list of steps": (("cells", 0, "inner_step_size"), [], ["inner_step_size", "[]", "at least 1"]),
    "a step twice": (("cells", 0, "inner_step_size"), [0.02, 0.02], ["inner_step_size", "differ"]),
    "a step that is no number": (("cells", 0, "meta_step_size"), float("nan"), ["meta_step_size", "finite"]),
    "an infinite step": (("evaluation", "common_step_size"), float("inf"), ["common_step_size", "inf", "finite"]),
    "zero seeds": (("seeds",), 0, ["seeds", "0", "greater than or equal to 1"]),
    "a negative number of meta-iterations": (("cells", 0, "meta_iterations"), -1, ["meta_iterations", "-1", "0"]),
    "an empty interval": (("tasks", "domain"), [5.0, 5.0], ["tasks.domain", "[5, 5]", "lower end below its upper"]),
    "a reversed interval": (
        ("protocols", "robustness", "support"),
        [5.0, 0.0],
        ["protocols.robustness.support", "[5, 0]", "lower end below its upper"],
    ),
    "an interval of three ends": (("tasks", "phase"), [0, 1, 2], ["tasks.phase", "[0, 1, 2]", "2 items"]),
    "an interval of one end": (("tasks", "phase"), [0], ["tasks.phase"]),
    "an interval without end": (("tasks", "domain"), [-5.0, float("inf")], ["tasks.domain", "finite"]),
    "support outside the domain": (
        ("protocols", "robustness", "support"),
        [0.0, 6.0],
        ["protocols.robustness.support", "inside tasks.domain [-5, 5]"],
    ),
    "an unknown protocol in validation": (
        ("validation", "protocol"),
        "robust",
        ["validation.protocol", "'robust'", "choose from standard, robustness"],
    ),
    "no protocols": (("protocols",), {}, ["protocols", "{}", "at least 1"]),
    "no cells": (("cells",), [], ["cells", "[]", "at least 1"]),
    "a published value off the grid": (
        ("cells", 0, "published", "meta_step_size"),
        0.02,
        ["cells[0].published", "0.02", "exactly one cell of the grid"],
    ),
    "published values of several cells": (
        ("cells", 0, "published"),
        {"meta_step_size": 0.01},
        ["cells[0].published", "exactly one cell of the grid", "3"],
    ),
    "neither meta_iterations nor equal_budget": (
        ("cells", 0, "meta_iterations"),
        DELETE,
        ["cells[0]", "either meta_iterations or equal_budget"],
    ),
    "both meta_iterations and equal_budget": (
        ("cells", 0, "equal_budget"),
        "reptile",
        ["cells[0]", "meta_iterations or equal_budget, and not both"],
    ),
    "the budget of an unknown algorithm": (
        ("cells", 2, "equal_budget"),
        "maml",
        ["equal_budget", "'maml'", "'fomaml'"],
    ),
    "the budget of an algorithm without a published cell": (
        ("cells", 0, "published"),
        DELETE,
        ["equal_budget", "fomaml", "published cell", "cells[2]"],
    ),
    "mini-batches that the grid cannot fill": (
        ("cells", 1, "inner_steps"),
        6,
        ["inner_steps * shots must not exceed grid_points", "6 * 10 > 50", "cells[1]"],
    ),
    "a hyperparameter too few": (
        ("cells", 0, "inner_steps"),
        DELETE,
        ["fomaml needs inner_steps", "cells[0]", "inner_step_size, inner_steps, meta_batch_size"],
    ),
    "a hyperparameter too many": (
        ("cells", 3, "inner_steps"),
        5,
        ["joint does not use inner_steps", "cells[3].inner_steps", "meta_batch_size, meta_step_size, shots"],
    ),
    "a cell twice": (("cells", 2), small.content()["cells"][1], ["cells", "once"]),
    "support without a point of the grid": (  # the nearest ones lie at 0.102 and 0.306
        ("protocols", "robustness", "support"),
        [0.11, 0.29],
        ["protocols.robustness.support", "point of the grid", "[0.11, 0.29]"],
    ),
    "a study named after a folder of results": (("study",), "reference", ["study", "'reference'", "another name"]),
    "a protocol's name that is a path": (
        ("protocols", "../x"),
        {"shots": 1, "support": [0.0, 1.0], "updates": 1, "gaussian_process_length_scale": 1.0},
        ["protocols", "'../x'", "lower-case letters"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_line_that_names_key_value_and_what_is_allowed(mistake):
    place, value, expected = MISTAKES[mistake]
    message = complaint(changed(place, value))
    missing = [text for text in expected if text not in message]
    assert not missing, message


@pytest.mark.parametrize("name", ["../x", "a b; rm", "", "A", "-x", "a\n", "x" * 41, "ü", "a/b", "$(id)", ".", "1a"])
def test_a_name_that_could_harm_a_path_or_a_shell_is_refused(name):
    message = complaint(changed(("study",), name))
    assert all(text in message for text in ("study", "lower-case letters, digits and hyphens"))


def test_a_key_with_a_line_break_is_still_refused_in_one_line():
    assert "unknown key" in complaint(changed(("a\nb",), 1))


def test_each_mistake_has_a_line_of_its_own():
    with pytest.raises(ConfigError) as caught:
        config.parse(changed(("seeds",), 0) | {"seed_block": 0})
    assert len(str(caught.value).splitlines()) == 2


# Text of a file, and what the message must say.
FILES = {
    "a duplicate key": ("seeds: 3\nstudy: flux\nseeds: 4\n", ["duplicate key 'seeds'", "line 3"]),
    "a duplicate key inside": ("tasks:\n  phase: [0, 1]\n  phase: [0, 2]\n", ["duplicate key 'phase'", "line 3"]),
    "an alias": ("cells: &a [1]\nprotocols: *a\n", ["aliases are not allowed", "*a", "line 2"]),
    "a list": ("- study: flux\n", ["must be a mapping", "list"]),
    "nothing": ("", ["must be a mapping", "NoneType"]),
    "no YAML": ("study: [flux\n", ["cannot read"]),
    "an object of Python": ("study: !!python/object/apply:os.getcwd []\n", ["cannot read"]),
    "a control character": ("study: \x00flux\n", ["cannot read"]),
    "a list as key": ("? [a, b]\n: 1\n", []),
    "a mapping as key": ("? {a: b}\n: 1\n", []),
    "a date as key": ("2019-01-01: 1\n", []),
    "a day that is no day": ("study: 2019-13-45\n", []),
    "a tag that does not fit": ("seeds: !!int three\n", []),
    "a number of 5000 digits": (f"seeds: {'9' * 5000}\n", []),
    "a thousand brackets": (f"seeds: {'[' * 1000}{']' * 1000}\n", []),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_is_refused_with_one_clear_error(name, tmp_path):
    text, expected = FILES[name]
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    missing = [text for text in (*expected, "study.yaml") if text not in str(caught.value)]
    assert not missing, str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(ConfigError, match=f"cannot read {path}"):
            config.load(path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"study: \xff\xfe")
    with pytest.raises(ConfigError, match="cannot read"):
        config.load(binary)


def test_a_message_names_the_file_and_the_place(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(changed(("cells", 1, "algorithm"), "reptil")), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).endswith(f"({path}, cells[1].algorithm)")


@pytest.mark.parametrize("path", sorted(small.FLUX.parent.glob("*.yaml")), ids=lambda path: path.name)
def test_the_studies_that_come_along_are_good(path):
    assert plans.cells(config.load(path))


def test_one_step_size_may_stand_without_a_list():
    one = config.parse(changed(("evaluation", "tuning_step_sizes"), 0.01)).evaluation.tuning_step_sizes
    assert one == [0.01]


def test_a_whole_number_is_a_number():
    assert config.parse(changed(("showcase", "phase"), 1)).showcase.phase == 1.0


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        small.flux().seeds = 3


KEYS = st.text(max_size=8) | st.sampled_from(["study", "seeds", "cells", "tasks", "protocols", "algorithm", "shots"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def places(node, path=()):
    """Every place of a content."""
    if path:
        yield path
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield from places(value, (*path, key))


def accepts_or_complains(content):
    before = copy.deepcopy(content)
    try:
        plans.cells(config.parse(content))
    except ConfigError as error:
        assert str(error)
    assert repr(content) == repr(before)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_mapping_gives_a_study_or_a_config_error(content):
    accepts_or_complains(content)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(place=st.sampled_from(list(places(small.content()))), value=VALUES)
def test_any_value_at_any_place_of_a_good_study_gives_a_study_or_a_config_error(place, value):
    accepts_or_complains(changed(place, value))


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(place=st.sampled_from(list(places(small.content()))), key=KEYS | st.integers() | st.none() | st.just(date.min))
def test_any_key_at_any_place_of_a_good_study_gives_a_study_or_a_config_error(place, key):
    accepts_or_complains(changed(place, {key: 1}))
