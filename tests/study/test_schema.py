"""The keys of a study file: every mistake gets one clear line before anything runs."""

from datetime import date
from typing import Literal

import pytest
import small
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import (
    DELETE,
    accepted_or_refused,
    changed,
    checked_study,
    complaint,
    complaints,
    places,
    replaced,
    rich,
)

from metabench.learning import algorithms
from metabench.learning.fields import Model
from metabench.study import config, limits
from metabench.study.config import ConfigError

STUDIES = sorted(small.FLUX.parent.glob("*.yaml"))


def nested(depth):
    """A list in a list in a list ..."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


# Where, what comes instead, and what the message must name: the key, the value, what is allowed.
MISTAKES = {
    "an unknown key": (("repeats",), 3, ["'repeats'", "choose from", "seeds"]),
    "a misspelt key": (
        ("seds",),
        3,
        ["unknown key 'seds'; did you mean 'seeds'? (study.yaml, seds)"],
    ),
    "an unknown key of a section": (
        ("evaluation", "bank"),
        3,
        ["'bank'", "choose from", "common_step_size, tasks"],
    ),
    "an unknown key of a group": (
        ("cells", 1, "points"),
        3,
        ["unknown key 'points'", "hyperparameters of reptile", "shots", "(cells[1].points)"],
    ),
    "a misspelt key of a group": (
        ("cells", 1, "shot"),
        3,
        ["unknown key 'shot'; did you mean 'shots'? (cells[1].shot)"],
    ),
    "an unknown key of a protocol": (
        ("protocols", "standard", "length"),
        1,
        ["'length'", "protocols.standard", "updates"],
    ),
    "an unknown key of published": (
        ("cells", 0, "published", "points"),
        1,
        ["unknown key 'points'", "inner_step_size", "(cells[0].published.points)"],
    ),
    "a misspelt key of published": (
        ("cells", 0, "published", "shot"),
        1,
        ["unknown key 'shot'; did you mean 'shots'? (cells[0].published.shot)"],
    ),
    "a missing key": (
        ("protocols", "standard", "shots"),
        DELETE,
        ["missing key 'shots'", "protocols.standard"],
    ),
    "no study": (("study",), DELETE, ["missing key 'study'"]),
    "a number as text": (("seeds",), "3", ["seeds", "'3'", "integer"]),
    "a step size as text": (
        ("cells", 0, "meta_step_size"),
        "1e-4",
        ["meta_step_size", "'1e-4'", "number"],
    ),
    "a truth value for a number": (("seeds",), True, ["seeds", "True", "integer"]),
    "a truth value for a step size": (
        ("evaluation", "common_step_size"),
        True,
        ["common_step_size", "True", "number"],
    ),
    "a fraction for a number": (("seeds",), 2.5, ["seeds", "2.5", "integer"]),
    "null for a number": (("seeds",), None, ["seeds", "None", "integer"]),
    "a list for a number": (("seeds",), [1, 2], ["seeds", "[1, 2]", "integer"]),
    "a list for a section": (("tasks",), [1, 2], ["tasks", "[1, 2]"]),
    "a number for a name": (("study",), 3, ["study must be text, got 3"]),
    "an unknown algorithm": (
        ("cells", 1, "algorithm"),
        "reptil",
        [
            "unknown algorithm 'reptil'; choose from",
            ", ".join(algorithms.NAMES),
            "a file",
            ".py",
            "cells[1].algorithm",
        ],
    ),
    "an unknown activation": (
        ("network", "activation"),
        "sigmoid",
        ["activation", "'sigmoid'", "'tanh', 'relu'"],
    ),
    "a file of a name that is none": (
        ("cells", 1, "algorithm"),
        "mine/Nudge.py",
        ["'mine/Nudge.py'", "lower-case"],
    ),
    "a file that is not there": (
        ("cells", 1, "algorithm"),
        "mine/absent.py",
        ["cannot load mine/absent.py: FileNotFoundError", "cells[1].algorithm"],
    ),
    "a file named after an algorithm": (
        ("cells", 1, "algorithm"),
        "mine/reptile.py",
        ["needs a different name", "mine/reptile.py", "cells[1].algorithm"],
    ),
    "no family": (
        ("tasks", "family"),
        DELETE,
        ["missing key 'family'", "'sine', 'sine-or-line'", "tasks.family)"],
    ),
    "an unknown family": (
        ("tasks", "family"),
        "cosine",
        ["unknown family 'cosine'", "choose from 'sine', 'sine-or-line'", "tasks.family)"],
    ),
    "a list for a family": (
        ("tasks", "family"),
        ["sine"],
        ["unknown family ['sine']", "choose from", "tasks.family)"],
    ),
    "an unknown key of a family": (
        ("tasks", "lines"),
        0.5,
        [
            "unknown key 'lines'; choose from amplitude, domain, family, frequency, grid_points",
            "(study.yaml, tasks.lines)",
        ],
    ),
    "an unknown key of another family": (
        ("tasks",),
        {"family": "sine-or-line", "sign": "minus"},
        [
            "unknown key 'sign'; choose from",
            "grid_points, intercept, lines, noise",
            "(study.yaml, tasks.sign)",
        ],
    ),
    "a value of another family": (
        ("tasks",),
        {"family": "sine-or-line", "lines": 1.5},
        ["lines must be less than or equal to 1, got 1.5 (study.yaml, tasks.lines)"],
    ),
    "noise below 0": (
        ("tasks", "noise"),
        -0.1,
        ["noise must be", "-0.1", "(study.yaml, tasks.noise)"],
    ),
    "an unknown sign": (
        ("tasks", "sign"),
        "-",
        ["unknown sign '-'", "choose from 'plus', 'minus'", "tasks.sign)"],
    ),
    "no task to train on": (
        ("tasks", "training_tasks"),
        0,
        ["training_tasks", "0", "tasks.training_tasks)"],
    ),
    "a picture without a phase": (
        ("showcase",),
        {"amplitude": 4.0},
        ["showcase of family sine takes amplitude, phase, frequency (or not)", "['amplitude']"],
    ),
    "a picture of another family": (
        ("showcase", "slope"),
        1.0,
        ["showcase of family sine takes amplitude, phase, frequency (or not)", "'slope'"],
    ),
    "a picture that a terminal would obey": (
        ("showcase", "\x1b[2J"),
        1,
        ["showcase of family sine", r"'\x1b[2J'"],
    ),
    "a negative step": (
        ("cells", 0, "inner_step_size"),
        -0.02,
        ["inner_step_size", "-0.02", "greater than 0"],
    ),
    "a step of zero in a list": (
        ("cells", 0, "inner_step_size"),
        [0.01, 0],
        ["inner_step_size", "greater than 0"],
    ),
    "an empty list of steps": (
        ("cells", 0, "inner_step_size"),
        [],
        ["a list of values must have one or more", "[]", "(cells[0].inner_step_size)"],
    ),
    "a step twice": (
        ("cells", 0, "inner_step_size"),
        [0.02, 0.02],
        ["each once", "[0.02, 0.02]", "(cells[0].inner_step_size)"],
    ),
    "a step that is no number": (
        ("cells", 0, "meta_step_size"),
        float("nan"),
        ["meta_step_size", "finite"],
    ),
    "an infinite step": (
        ("evaluation", "common_step_size"),
        float("inf"),
        ["common_step_size", "inf", "finite"],
    ),
    "zero seeds": (("seeds",), 0, ["seeds", "0", "greater than or equal to 1"]),
    "a negative number of meta-iterations": (
        ("cells", 0, "meta_iterations"),
        -1,
        ["meta_iterations", "-1", "0"],
    ),
    "an empty interval": (
        ("tasks", "domain"),
        [5.0, 5.0],
        ["tasks.domain", "[5, 5]", "its lower end first"],
    ),
    "a reversed interval": (
        ("protocols", "robustness", "support"),
        [5.0, 0.0],
        ["protocols.robustness.support", "[5, 0]", "its lower end first"],
    ),
    "an interval of three ends": (
        ("tasks", "phase"),
        [0, 1, 2],
        ["tasks.phase", "[0, 1, 2]", "2 items"],
    ),
    "an interval of one end": (
        ("tasks", "phase"),
        [0],
        ["phase is missing an item", "tasks.phase[1]"],
    ),
    "an interval without end": (
        ("tasks", "domain"),
        [-5.0, float("inf")],
        ["tasks.domain", "finite"],
    ),
    "support outside the domain": (
        ("protocols", "robustness", "support"),
        [0.0, 6.0],
        ["inside the domain [-5, 5]", "[0, 6]", "(protocols.robustness.support)"],
    ),
    "an unknown protocol in validation": (
        ("validation", "protocol"),
        "robust",
        ["unknown protocol 'robust'", "choose from standard, robustness", "(validation.protocol)"],
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
    "both meta_iterations and equal_budget": (
        ("cells", 0, "equal_budget"),
        "reptile",
        [
            "cells[0]",
            "give one of meta_iterations, equal_budget, budget",
            "got meta_iterations and equal_budget",
        ],
    ),
    "the budget of an unknown algorithm": (
        ("cells", 2, "equal_budget"),
        "mamel",
        ["equal_budget", "'mamel'", "fomaml, "],
    ),
    "the budget of an algorithm without a published cell": (
        ("cells", 0, "published"),
        DELETE,
        ["equal_budget", "fomaml", "published cell", "cells[2]"],
    ),
    "mini-batches that the grid cannot fill": (
        ("cells", 1, "inner_steps"),
        6,
        ["inner_steps * shots must not exceed its 50 points", "6 * 10", "(cells[1])"],
    ),
    "a hyperparameter too few": (
        ("cells", 0, "inner_step_size"),
        DELETE,
        ["missing key 'inner_step_size'", "(cells[0].inner_step_size)"],
    ),
    "a hyperparameter too many": (
        ("cells", 3, "inner_steps"),
        5,
        [
            "unknown key 'inner_steps'",
            "hyperparameters of joint: meta_batch_size, meta_clip, meta_optimizer, meta_schedule",
            "keys of every group: algorithm, budget, equal_budget",
            "(cells[3].inner_steps)",
        ],
    ),
    "a key of groups that is misspelled": (
        ("cells", 0, "meta_iteration"),
        5,
        ["unknown key 'meta_iteration'", "meta_iterations", "(cells[0].meta_iteration)"],
    ),
    "an unknown rule of the outer update": (
        ("cells", 0, "meta_optimizer"),
        ["sgd", "momentum"],
        ["unknown meta_optimizer 'momentum'", "'sgd', 'adam'", "(cells[0].meta_optimizer)"],
    ),
    "an unknown key of a group's network": (
        ("cells", 0, "network"),
        {"layers": [8]},
        ["unknown key 'layers'", "activation, hidden", "(cells[0].network.layers)"],
    ),
    "an unknown activation in a grid": (
        ("cells", 0, "network"),
        {"activation": ["tanh", "sigmoid"]},
        ["unknown activation 'sigmoid'", "'tanh', 'relu'", "(cells[0].network.activation)"],
    ),
    "no layer in a grid": (
        ("cells", 0, "network"),
        {"hidden": [[64], []]},
        ["hidden must have at least 1 item", "[]", "(cells[0].network.hidden)"],
    ),
    "an empty grid of activations": (
        ("cells", 0, "network"),
        {"activation": []},
        ["a list of values must have one or more", "(cells[0].network.activation)"],
    ),
    "text for a group's network": (
        ("cells", 0, "network"),
        "tanh",
        ["network must be a mapping", "'tanh'", "cells[0].network)"],
    ),
    "noise in a group's tasks": (
        ("cells", 0, "tasks"),
        {"noise": 0.1},
        ["unknown key 'noise'; choose from training_tasks", "(cells[0].tasks.noise)"],
    ),
    "no training task in a grid": (
        ("cells", 0, "tasks"),
        {"training_tasks": [100, 0]},
        ["training_tasks must be greater than or equal to 1, got 0", "cells[0].tasks.training_"],
    ),
    "text for a number of meta-iterations": (
        ("cells", 0, "meta_iterations"),
        "5",
        ["meta_iterations must be an integer, got '5'", "(cells[0].meta_iterations)"],
    ),
    "the same length twice": (
        ("cells", 0, "meta_iterations"),
        [5, 5.0],
        ["each once", "[5, 5.0]", "(cells[0].meta_iterations)"],
    ),
    "a cell twice": (
        ("cells", 2),
        small.content()["cells"][1],
        ["must appear once", "9 do not", "'reptile inner 0.01, meta 0.03'", "(cells)"],
    ),
    "an unknown step rule": (
        ("protocols", "standard", "steps"),
        ["own", "best"],
        ["a step rule is own, common, tuned, a number", "'best'", "(protocols.standard.steps[1])"],
    ),
    "a step rule beyond reason": (
        ("protocols", "standard", "steps"),
        [1e7],
        ["a step rule is own", "'10000000.0'", "(protocols.standard.steps[0])"],
    ),
    "a truth value for a step rule": (
        ("protocols", "standard", "steps"),
        [True],
        ["steps must be text, got True", "(protocols.standard.steps[0])"],
    ),
    "a multiple of the common step": (
        ("protocols", "standard", "steps"),
        ["common x 4"],
        ["a step rule is own", "'common x 4'", "(protocols.standard.steps[0])"],
    ),
    "a step rule twice": (
        ("protocols", "standard", "steps"),
        ["own x 4", "own x 4.0"],
        ["must be given once, got own x 4, own x 4", "(protocols.standard.steps)"],
    ),
    "a step rule without a list": (
        ("protocols", "standard", "steps"),
        "own",
        ["steps must be a list, got 'own'", "(protocols.standard.steps)"],
    ),
    "an unknown rule of the updates": (
        ("protocols", "standard", "optimizer"),
        "rmsprop",
        ["unknown optimizer 'rmsprop'", "'sgd', 'adam'", "(protocols.standard.optimizer)"],
    ),
    "a domain that lacks the support": (
        ("protocols", "standard", "domain"),
        [-1, 1],
        ["inside the domain [-1, 1]", "got [-5, 5]", "(protocols.standard.support)"],
    ),
    "an empty grid of shots": (
        ("protocols", "standard", "shots"),
        [],
        ["a list of values must have one or more", "[]", "(protocols.standard.shots)"],
    ),
    "the same shots twice": (
        ("protocols", "standard", "shots"),
        [5, 5],
        ["each once", "[5, 5]", "(protocols.standard.shots)"],
    ),
    "no shots in a grid": (
        ("protocols", "standard", "shots"),
        [5, 0],
        ["shots must be greater than or equal to 1, got 0", "(protocols.standard.shots)"],
    ),
    "an interval among numbers": (
        ("protocols", "standard", "support"),
        [[0, 5], 3],
        ["support", "(protocols.standard.support[0])"],
    ),
    "a list for a protocol's tasks": (
        ("protocols", "standard", "tasks"),
        ["sine"],
        ["tasks must be a mapping", "['sine']", "(protocols.standard.tasks)"],
    ),
    "an unknown key of a protocol's tasks": (
        ("protocols", "standard", "tasks"),
        {"lines": 0.5},
        ["unknown key 'lines'", "amplitude", "(protocols.standard.tasks.lines)"],
    ),
    "text for an amplitude of a protocol's tasks": (
        ("protocols", "standard", "tasks"),
        {"amplitude": [1, "2"]},
        ["amplitude must be a number, got '2'", "(protocols.standard.tasks.amplitude[1])"],
    ),
    "an unknown family of a protocol's tasks": (
        ("protocols", "standard", "tasks"),
        {"family": "cosine"},
        ["unknown family 'cosine'", "'sine', 'sine-or-line'", "(protocols.standard.tasks.family)"],
    ),
    "a family of another number of inputs": (
        ("protocols", "standard", "tasks"),
        {"family": "plane-wave"},
        ["plane-wave have 2 inputs", "this study 1", "(protocols.standard.tasks.family)"],
    ),
    "noise among a protocol's tasks": (
        ("protocols", "standard", "tasks"),
        {"noise": 0.1},
        ["noise is a key of the protocol itself", "(protocols.standard.tasks.noise)"],
    ),
    "training tasks of a protocol": (
        ("protocols", "standard", "tasks"),
        {"training_tasks": 10},
        ["about training alone", "(protocols.standard.tasks.training_tasks)"],
    ),
    "more protocols than anybody waits for": (
        ("protocols", "standard"),
        {
            **small.content()["protocols"]["standard"],
            "shots": [*range(1, 1001)],
            "updates": [*range(1, 1001)],
        },
        ["2000 protocols at most, got 1000001", "(protocols)"],
    ),
    "a protocol's name that a table would not read as text": (
        ("protocols", "nan"),
        small.content()["protocols"]["standard"],
        ["a name must not be one of false, inf", "'nan'", "protocols.nan)"],
    ),
    "an algorithm's name that a table would not read as text": (
        ("cells", 0, "algorithm"),
        "mine/inf.py",
        ["a name must not be one of false, inf", "'inf'", "cells[0].algorithm)"],
    ),
    "support without a point of the grid": (  # the nearest ones lie at 0.102 and 0.306
        ("protocols", "robustness", "support"),
        [0.11, 0.29],
        ["protocols.robustness.support", "point of the grid", "[0.11, 0.29]"],
    ),
    "a study named after a folder of results": (
        ("study",),
        "reference",
        ["study 'reference' is the name of another folder", "(study.yaml, study)"],
    ),
    "a study named after drawn figures": (
        ("study",),
        "redrawn",
        ["study 'redrawn' is the name of another folder", "choose a different name"],
    ),
    "text for a section": (("network",), "tanh", ["network", "'tanh'", "a mapping"]),
    "nothing for a section": (("tasks",), None, ["tasks", "None", "a mapping"]),
    "text for a list": (("cells",), "fomaml", ["cells", "'fomaml'", "a list"]),
    "a number for a group": (("cells", 0), 3, ["cells[0]", "3", "a mapping"]),
    "a list for protocols": (("protocols",), [1], ["protocols", "[1]", "a mapping"]),
    "text for an end of an interval": (
        ("tasks", "domain"),
        [-5.0, "5"],
        ["tasks.domain[1]", "'5'", "a number"],
    ),
    "a mapping for a step size": (
        ("cells", 0, "meta_step_size"),
        {"from": 1},
        ["meta_step_size", "'from'", "number"],
    ),
    "no source": (("source",), "", ["source", "''", "at least 1 character"]),
    "a number as source": (("source",), 2019, ["source must be text, got 2019"]),
    "a source too long": (("source",), "x" * 501, ["source", "at most 500 characters"]),
    "a source that a terminal would obey": (
        ("source",),
        "\x1b[2J",
        ["source", r"'\x1b[2J'", "control characters"],
    ),
    "half a character in the source": (("source",), "\ud800", ["text and numbers"]),
    "a number of 400 digits": (
        ("seeds",),
        10**400,
        ["seeds", "...", "less than or equal to 10000"],
    ),
    "a step size of 400 digits": (
        ("cells", 0, "meta_step_size"),
        10**400,
        ["meta_step_size", "..."],
    ),
    "too many seeds": (("seeds",), 10_001, ["seeds", "10001", "less than or equal to 10000"]),
    "too many seeds in a block": (
        ("seed_block",),
        1001,
        ["seed_block", "1001", "less than or equal to 1000"],
    ),
    "too many meta-iterations": (
        ("cells", 0, "meta_iterations"),
        10**9,
        ["meta_iterations", "1000000000"],
    ),
    "too many layers": (("network", "hidden"), [8] * 9, ["network.hidden", "at most 8"]),
    "no layer": (("network", "hidden"), [], ["network.hidden", "at least 1"]),
    "a layer too wide": (("network", "hidden"), [64, 5000], ["network.hidden[1]", "5000", "4096"]),
    "a grid of one point": (
        ("tasks", "grid_points"),
        1,
        ["tasks.grid_points", "1", "greater than or equal to 2"],
    ),
    "a bank of one task": (
        ("evaluation", "tasks"),
        1,
        ["evaluation.tasks", "greater than or equal to 2"],
    ),
    "certainty": (("statistics", "confidence"), 1, ["statistics.confidence", "1", "less than 1"]),
    "an interval beyond reason": (
        ("tasks", "domain"),
        [-1e308, 0],
        ["tasks.domain[0]", "-1e+308", "-1000000"],
    ),
    "an interval next to nothing": (
        ("tasks", "domain"),
        [0, 5e-324],
        ["tasks.domain", "at least 1e-6", "[0, 4.94066e-324]"],
    ),
    "a wave beyond reason": (
        ("showcase", "amplitude"),
        1e300,
        ["showcase.amplitude", "1e+300", "1000000"],
    ),
    "a kernel without a factor": (
        ("gaussian_process",),
        {"variance": 4.0, "jitter": 1e-12},
        ["jitter", "1e-9 of the variance 4", "1e-12", "(study.yaml, gaussian_process)"],
    ),
    "more jobs than anybody waits for": (
        ("cells", 0),
        {
            **small.content()["cells"][0],
            "inner_step_size": [*range(1, 101)],
            "meta_step_size": [*range(1, 101)],
        },
        ["10014 training jobs", "at most 10000"],
    ),
    "an equal budget beyond reason": (
        ("cells", 0, "meta_iterations"),
        10**8,
        ["1 to 100000000 meta-iterations", "360000000", "(cells[2].equal_budget)"],
    ),
    "an equal budget of nothing": (
        ("cells", 0, "meta_iterations"),
        0,
        ["1 to 100000000 meta-iterations", "its budget is 0", "(cells[2].equal_budget)"],
    ),
    "a protocol's name with a capital": (
        ("protocols", "Standard"),
        small.content()["protocols"]["standard"],
        ["a name must be lower-case", "'Standard'", "protocols.Standard)"],
    ),
    "a key that a terminal would obey": (
        ("protocols", "standard", "\x1b[2J"),
        1,
        ["unknown key", r"\x1b[2J"],
    ),
    "a key without end": (("x" * 100_000,), 1, ["unknown key 'xxx", "..."]),
    "a value without end": (("seeds",), ["x" * 100_000], ["seeds", "..."]),
    "a value without bottom": (("seeds",), nested(150), ["seeds", "..."]),
    "a value without any bottom": (("seeds",), nested(800), ["text and numbers", "recursion"]),
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


PATHS = ". .. ../x /abs a/b a\\b ~a a* a.b a_b CON"
SHELL = "$(id) ${HOME} `id` a;b a|b a&b a>b a'b a\"b -x --help {wildcards.cell} {a} %s 1a A"
SPACES = [
    "",
    "a b",
    "a b; rm",
    "flux ",
    "flux\n",
    "\nflux",
    "flux\r",
    "flux\t",
    "flux\0",
    "x" * 41,
    "x" * 100_000,
]
ALIKE = [
    "ü",
    "ﬂux",
    "ｆlux",
    "flu\u0445",
    "flux\u0661",
    "flux\u00ad",
    "flux\u200b",
    "flux\u202e",
    "İ",
]
HARMFUL = [*PATHS.split(), *SHELL.split(), *SPACES, *ALIKE]


IDS = [f"{n} {name!a:.12}" for n, name in enumerate(HARMFUL)]


@pytest.mark.parametrize("place", ["study", "protocols"])
@pytest.mark.parametrize("name", HARMFUL, ids=IDS)
def test_a_name_that_could_harm_a_path_or_a_shell_is_refused(name, place):
    content = small.content()
    if place == "study":
        content["study"] = name
    else:
        content["protocols"][name] = content["protocols"]["standard"]
    message = complaint(content)
    allowed = "lower-case letters, digits and hyphens, 40 at most, a letter first"
    assert place in message and allowed in message


@pytest.mark.parametrize("name", HARMFUL, ids=IDS)
def test_a_protocol_to_validate_on_is_one_of_those_that_there_are(name):
    message = complaint(changed(("validation", "protocol"), name))
    assert "validation.protocol" in message


@pytest.mark.parametrize("name", limits.NO_NAMES)
def test_a_name_that_a_table_would_not_read_as_text_is_refused(name):
    assert f"got '{name}' (study.yaml, study)" in complaint(changed(("study",), name))


@pytest.mark.parametrize("name", ["a", "flux", "a-1", "con", "on", "e5", "x" * 40])
def test_a_name_of_letters_digits_and_hyphens_is_free(name):
    assert config.parse(changed(("study",), name)).study == name


def test_a_key_with_a_line_break_is_still_refused_in_one_line():
    assert "unknown key" in complaint(changed(("a\nb",), 1))


SPELT = [
    ("seeds",),
    ("cells", 0, "meta_step_size"),
    ("cells", 3, "shots"),
    ("protocols", "standard", "updates"),
]


@pytest.mark.parametrize("place", SPELT, ids=lambda place: str(place[-1]))
def test_a_required_key_that_is_misspelt_is_not_missing_as_well(place):
    *parents, key = place
    content = small.content()
    node = content
    for part in parents:
        node = node[part]
    node[key[1:]] = node.pop(key)
    assert f"unknown key {key[1:]!r}; did you mean {key!r}? (" in complaint(content)


def test_of_a_misspelt_key_only_the_one_that_it_means_is_not_missing():
    content = small.content()
    group = content["cells"][0]
    group["meta_step_sze"] = group.pop("meta_step_size")
    del group["inner_step_size"]
    assert complaints(content) == [
        "unknown key 'meta_step_sze'; did you mean 'meta_step_size'? (cells[0].meta_step_sze)",
        "missing key 'inner_step_size' (cells[0].inner_step_size)",
    ]


def test_each_mistake_has_a_line_of_its_own():
    assert len(complaints(changed(("seeds",), 0) | {"seed_block": 0})) == 2


def test_mistakes_in_several_groups_cells_protocols_and_pictures_are_told_together():
    content = small.content(showcase={"amplitude": 1.0})
    content["cells"][0]["shot"] = 3
    content["cells"][0]["meta_step_size"] = [0, -1]
    content["cells"][0]["network"] = {"activation": "sigmoid"}
    content["cells"][1]["inner_steps"] = 6
    content["protocols"]["standard"]["shots"] = 0
    content["protocols"]["robustness"]["support"] = [0, 6]
    messages = complaints(content)
    places = [
        "showcase",
        "protocols.standard.shots",
        "protocols.robustness.support",
        "cells[0].network.activation",
        "cells[0].shot",
        "cells[0].meta_step_size",
        "cells[0].meta_step_size",
        "cells[1]",
    ]
    assert [line[line.rindex("(") :] for line in messages] == [f"({place})" for place in places]


def test_a_mistake_in_one_value_of_a_grid_is_told_once():
    assert len(complaints(changed(("cells", 0, "inner_step_size"), [0.01, 0.02, -0.04]))) == 1


def test_a_list_whose_items_are_all_wrong_is_not_told_to_be_empty():
    assert complaints(changed(("cells",), [{"algorithm": "mamel"}] * 2)) == [
        complaint(changed(("cells",), [{"algorithm": "mamel"}])),
        complaint(changed(("cells",), [{"algorithm": "mamel"}])).replace("[0]", "[1]"),
    ]


def test_of_a_thousand_mistakes_ten_are_told_and_the_rest_is_counted():
    messages = complaints(changed(("cells",), [{"algorithm": "mamel"}] * 1000))
    assert len(messages) == 11 and messages[-1] == "and 990 more mistakes"


def test_one_of_several_types_is_named_by_its_key_alone():
    class Choice(Model):
        strength: float | Literal["auto"]

    with pytest.raises(ConfigError) as caught:
        config.check(Choice, {"strength": "much"}, place="cells[0]")
    assert str(caught.value).split("\n") == [
        "strength must be a number, got 'much' (cells[0].strength)",
        "unknown strength 'much'; choose from 'auto' (cells[0].strength)",
    ]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_the_studies_that_come_along_are_good(path):
    assert checked_study(config.read(path)).cells


def test_a_whole_number_is_a_number():
    assert config.parse(changed(("showcase", "phase"), 1)).showcase["phase"] == 1.0


def test_a_study_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        small.flux().config.seeds = 3


KEYS = st.text(max_size=8) | st.sampled_from(
    ["study", "seeds", "cells", "tasks", "protocols", "algorithm", "shots"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


checked = settings(deadline=None, derandomize=True, database=None)
GOOD = {"flux": small.content, "rich": rich}
PLACES = [(name, place) for name, good in GOOD.items() for place in places(good())]


@settings(checked, max_examples=100)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_mapping_gives_a_study_or_a_config_error(content):
    assert accepted_or_refused(content)


@settings(checked, max_examples=300)
@given(at=st.sampled_from(PLACES), value=VALUES | st.just(DELETE))
def test_any_value_at_any_place_of_a_good_study_gives_a_study_or_a_config_error(at, value):
    name, place = at
    assert accepted_or_refused(replaced(GOOD[name](), place, value))


@settings(checked, max_examples=50)
@given(at=st.sampled_from(PLACES), key=KEYS | st.integers() | st.none() | st.just(date.min))
def test_any_key_at_any_place_of_a_good_study_gives_a_study_or_a_config_error(at, key):
    name, place = at
    assert accepted_or_refused(replaced(GOOD[name](), place, {key: 1}))


@settings(checked, max_examples=100)
@given(st.data())
def test_any_damage_to_a_good_study_gives_a_study_or_a_config_error(data):
    content = data.draw(st.sampled_from(list(GOOD)).map(lambda name: GOOD[name]()))
    for _ in range(data.draw(st.integers(1, 4))):
        *parents, last = data.draw(st.sampled_from(list(places(content)) or [("study",)]))
        node = content
        for part in parents:
            node = node[part]
        action = data.draw(st.sampled_from(["replace", "delete", "add"]))
        if action == "delete" and node:
            del node[last]
        elif action == "add" and isinstance(node, list):
            node.insert(last, data.draw(VALUES))
        else:
            node[data.draw(KEYS) if action == "add" else last] = data.draw(VALUES)
    assert accepted_or_refused(content)


def test_a_message_names_the_file_and_the_place(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(changed(("cells", 1, "algorithm"), "reptil")), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).endswith(f"({path}, cells[1].algorithm)")
