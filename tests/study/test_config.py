import copy
import json
import re
from collections.abc import Mapping
from datetime import date

import pytest
import small
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from metabench.learning import algorithms
from metabench.records.provenance import canonical
from metabench.study import config, plans
from metabench.study.config import ConfigError
from metabench.views.tracking import contents

DELETE = object()


def replaced(content, place, value):
    """A content with one entry replaced, added or deleted: ("cells", 0, "shots")."""
    *parents, last = place
    node = content
    for part in parents:
        node = node[part]
    if value is DELETE:
        del node[last]
    else:
        node[last] = value
    return content


def changed(place, value):
    """The content of config/flux.yaml with one entry replaced, added or deleted."""
    return replaced(small.content(), place, value)


def complaint(content):
    """The one line that a study is refused with."""
    with pytest.raises(ConfigError) as caught:
        plans.cells(config.parse(content, "study.yaml"))
    return in_one_line(caught.value)


def in_one_line(error):
    """The text of a complaint, which is a line that is short enough to read and has nothing that a
    terminal obeys.
    """
    text = str(error)
    assert text.isprintable() and len(text) < 500
    return text


def nested(depth):
    """A list in a list in a list ..."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


# Where, what comes instead, and what the message must name: the key, the value, what is allowed.
MISTAKES = {
    "an unknown key": (("seds",), 3, ["'seds'", "choose from", "seeds"]),
    "an unknown key of a section": (
        ("evaluation", "task"),
        3,
        ["'task'", "choose from", "common_step_size, tasks"],
    ),
    "an unknown key of a group": (
        ("cells", 1, "shot"),
        3,
        ["'shot'", "cells[1].shot", "choose from", "shots"],
    ),
    "an unknown key of a protocol": (
        ("protocols", "standard", "step"),
        1,
        ["'step'", "protocols.standard", "updates"],
    ),
    "an unknown key of published": (
        ("cells", 0, "published", "shots"),
        1,
        ["'shots'", "inner_step_size"],
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
    "a number for a name": (("study",), 3, ["study", "3", "string"]),
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
        ["needs a name of its own", "mine/reptile.py", "cells[1].algorithm"],
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
        ["inner_step_size", "[]", "at least 1"],
    ),
    "a step twice": (("cells", 0, "inner_step_size"), [0.02, 0.02], ["inner_step_size", "differ"]),
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
        ["tasks.domain", "[5, 5]", "lower end below its upper"],
    ),
    "a reversed interval": (
        ("protocols", "robustness", "support"),
        [5.0, 0.0],
        ["protocols.robustness.support", "[5, 0]", "lower end below its upper"],
    ),
    "an interval of three ends": (
        ("tasks", "phase"),
        [0, 1, 2],
        ["tasks.phase", "[0, 1, 2]", "2 items"],
    ),
    "an interval of one end": (("tasks", "phase"), [0], ["phase lacks an item", "tasks.phase[1]"]),
    "an interval without end": (
        ("tasks", "domain"),
        [-5.0, float("inf")],
        ["tasks.domain", "finite"],
    ),
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
        [
            "joint does not use inner_steps",
            "cells[3].inner_steps",
            "meta_batch_size, meta_step_size, shots",
        ],
    ),
    "a cell twice": (("cells", 2), small.content()["cells"][1], ["cells", "once"]),
    "support without a point of the grid": (  # the nearest ones lie at 0.102 and 0.306
        ("protocols", "robustness", "support"),
        [0.11, 0.29],
        ["protocols.robustness.support", "point of the grid", "[0.11, 0.29]"],
    ),
    "a study named after a folder of results": (
        ("study",),
        "reference",
        ["study", "'reference'", "another name"],
    ),
    "a study named after drawn figures": (
        ("study",),
        "redrawn",
        ["study", "'redrawn'", "another name"],
    ),
    "text for a section": (("network",), "tanh", ["network", "'tanh'", "a mapping"]),
    "nothing for a section": (("tasks",), None, ["tasks", "None", "a mapping"]),
    "text for a list": (("cells",), "fomaml", ["cells", "'fomaml'", "a list"]),
    "a number for a group": (("cells", 0), 3, ["cells[0]", "3", "a mapping"]),
    "a list for protocols": (("protocols",), [1], ["protocols", "[1]", "a mapping"]),
    "text for an end of an interval": (
        ("tasks", "domain"),
        [-5.0, "5"],
        ["tasks.domain[1]", "'5'", "a valid number"],
    ),
    "a mapping for a step size": (
        ("cells", 0, "meta_step_size"),
        {"from": 1},
        ["meta_step_size", "'from'", "number"],
    ),
    "no source": (("source",), "", ["source", "''", "at least 1 character"]),
    "a number as source": (("source",), 2019, ["source", "2019", "string"]),
    "a source too long": (("source",), "x" * 501, ["source", "at most 500 characters"]),
    "a source that a terminal would obey": (
        ("source",),
        "\x1b[2J",
        ["source", r"'\x1b[2J'", "control characters"],
    ),
    "half a character in the source": (("source",), "\ud800", ["words and numbers"]),
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
    "too many steps in a list": (
        ("cells", 0, "meta_step_size"),
        [*range(1, 102)],
        ["meta_step_size", "at most 100"],
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
        ["tasks.domain", "by 1e-6", "[0, 4.94066e-324]"],
    ),
    "a wave beyond reason": (
        ("showcase", "amplitude"),
        1e300,
        ["showcase.amplitude", "1e+300", "1000000"],
    ),
    "a kernel without a factor": (
        ("gaussian_process",),
        {"variance": 4.0, "jitter": 1e-12},
        ["jitter", "1e-9 of the variance 4", "1e-12", "gaussian_process)"],
    ),
    "more jobs than anybody waits for": (
        ("cells", 0),
        {
            **small.content()["cells"][0],
            "inner_step_size": [*range(1, 101)],
            "meta_step_size": [*range(1, 101)],
        },
        ["10014 training jobs", "10000 at most"],
    ),
    "a study that no command line holds": (
        ("cells",),
        [{"algorithm": "random", "meta_iterations": n} for n in range(1000)],
        ["100000 characters at most"],
    ),
    "an equal budget beyond reason": (
        ("cells", 0, "meta_iterations"),
        10**8,
        ["100000000 meta-iterations at most", "360000000", "cells[2].equal_budget"],
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
    "a value without any bottom": (("seeds",), nested(800), ["words and numbers", "recursion"]),
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


@pytest.mark.parametrize("place", ["study", "protocols", "validation.protocol"])
@pytest.mark.parametrize(
    "name", HARMFUL, ids=[f"{n} {name!a:.12}" for n, name in enumerate(HARMFUL)]
)
def test_a_name_that_could_harm_a_path_or_a_shell_is_refused(name, place):
    content = small.content()
    match place:
        case "study":
            content["study"] = name
        case "protocols":
            content["protocols"][name] = content["protocols"]["standard"]
        case _:
            content["validation"]["protocol"] = name
    message = complaint(content)
    assert (
        place in message
        and "lower-case letters, digits and hyphens, 40 at most, a letter first" in message
    )


@pytest.mark.parametrize("name", ["a", "flux", "a-1", "con", "on", "null", "x" * 40])
def test_a_name_of_letters_digits_and_hyphens_is_free(name):
    assert config.parse(changed(("study",), name)).study == name


def test_a_key_with_a_line_break_is_still_refused_in_one_line():
    assert "unknown key" in complaint(changed(("a\nb",), 1))


def lines(content):
    """The lines that a study is refused with."""
    with pytest.raises(ConfigError) as caught:
        config.parse(content)
    return str(caught.value).splitlines()


def test_each_mistake_has_a_line_of_its_own():
    assert len(lines(changed(("seeds",), 0) | {"seed_block": 0})) == 2


def test_a_list_whose_items_are_all_wrong_is_not_told_to_be_empty():
    assert lines(changed(("cells",), [{"algorithm": "random", "shots": 0}])) == [
        "shots must be greater than or equal to 1, got 0 (config, cells[0].shots)"
    ]


def test_of_a_thousand_mistakes_ten_are_told_and_the_rest_is_counted():
    told = lines(changed(("cells",), [{"algorithm": "mamel"}] * 1000))
    assert len(told) == 11 and told[-1] == "and 990 more (config)"


def test_a_study_of_as_many_jobs_as_are_allowed_has_them_at_once():
    steps = [n / 1000 for n in range(1, 101)]
    group = {
        **small.content()["cells"][1],
        "inner_step_size": steps,
        "meta_step_size": steps,
        "published": None,
    }
    study = small.flux(cells=[group])
    assert len({cell.id for cell in plans.cells(study)}) == config.JOBS


def test_more_blocks_of_seeds_than_anybody_waits_for_are_refused():
    assert "230000 training jobs; a study has 10000 at most" in complaint(
        small.content(seeds=10_000, seed_block=1)
    )


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))

# Text of a file, and what the message must say.
FILES = {
    "a duplicate key": ("seeds: 3\nstudy: flux\nseeds: 4\n", ["duplicate key 'seeds'", "line 3"]),
    "a duplicate key inside": (
        "tasks:\n  phase: [0, 1]\n  phase: [0, 2]\n",
        ["duplicate key 'phase'", "line 3"],
    ),
    "a duplicate key in another spelling": (
        "seeds: 3\n'seeds': 4\n",
        ["duplicate key 'seeds'", "line 2"],
    ),
    "an alias": ("cells: &a [1]\nprotocols: *a\n", ["aliases are not allowed", "*a", "line 2"]),
    "an alias of itself": ("cells: &a [*a]\n", ["aliases are not allowed", "*a", "line 1"]),
    "aliases that double sixty times": (BOMB, ["aliases are not allowed", "*a0", "line 2"]),
    "a merged mapping": ("<<: {seeds: 3}\n", ["a key must be a word", "line 1"]),
    "a list": ("- study: flux\n", ["must be a mapping", "list"]),
    "a word": ("flux\n", ["must be a mapping", "str"]),
    "nothing": ("", ["must be a mapping", "NoneType"]),
    "a comment": ("# study: flux\n", ["must be a mapping", "NoneType"]),
    "two documents": ("study: flux\n---\nstudy: smoke\n", ["cannot read", "single document"]),
    "no YAML": ("study: [flux\n", ["cannot read"]),
    "a tab": ("study:\n\t- flux\n", ["cannot read"]),
    "an object of Python": (
        "study: !!python/object/apply:os.getcwd []\n",
        ["tags are not allowed", "line 1"],
    ),
    "a template that runs Python": (
        "__use_yte__: true\nstudy: ?print(1)\n",
        ["templates are not allowed"],
    ),
    "a control character": ("study: \x00flux\n", ["cannot read"]),
    "a list as key": ("? [a, b]\n: 1\n", ["a key must be a word", "line 1"]),
    "a mapping as key": ("? {a: b}\n: 1\n", ["a key must be a word", "line 1"]),
    "a date as key": ("2019-01-01: 1\n", ["a key must be a word", "line 1"]),
    "a truth value as key": ("study: flux\non: 1\n", ["a key must be a word", "line 2"]),
    "nothing as key": ("~: 1\n", ["a key must be a word", "line 1"]),
    "a day that is no day": ("study: 2019-13-45\n", ["cannot read"]),
    "a truth value that is none": ("seeds: !!bool three\n", ["tags are not allowed", "bool"]),
    "a time that is none": ("study: !!timestamp three\n", ["tags are not allowed", "timestamp"]),
    "bytes": ("study: !!binary aGk=\n", ["tags are not allowed", "binary"]),
    "a tag of its own": ("study: !flux x\n", ["tags are not allowed", "!flux"]),
    "the sign of a default value": ("study: =\n", ["cannot read"]),
    "an octal number": ("seeds: 010\n", ["decimal digits", "got 010 in line 1"]),
    "a number to the base of sixty": ("seeds: 1:30\n", ["decimal digits", "got 1:30 in line 1"]),
    "a fraction to the base of sixty": (
        "showcase: {phase: 1:30.5}\n",
        ["decimal digits", "got 1:30.5 in line 1"],
    ),
    "a number with underscores": ("seeds: 1_000\n", ["decimal digits", "got 1_000 in line 1"]),
    "a hexadecimal number": ("seeds: 0x1f\n", ["decimal digits", "got 0x1f in line 1"]),
    "a binary number": ("seeds: 0b11\n", ["decimal digits", "got 0b11 in line 1"]),
    "a number of 5000 digits": (f"seeds: {'9' * 5000}\n", ["cannot read"]),
    "a thousand brackets": (f"seeds: {'[' * 1000}{']' * 1000}\n", ["cannot read"]),
    "a thousand braces": (f"seeds: {'{a: ' * 1000}1{'}' * 1000}\n", ["cannot read"]),
    "more than anybody writes": (f"# {'x' * config.LARGEST}\n", ["100000 bytes at most"]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_is_refused_with_one_clear_error(name, tmp_path):
    text, expected = FILES[name]
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    message = in_one_line(caught.value)
    missing = [text for text in (*expected, "study.yaml") if text not in message]
    assert not missing, message


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(ConfigError, match=f"cannot read {path}"):
            config.load(path)
    binary = tmp_path / "binary.yaml"
    for content in (b"study: \xff\xfe", bytes(range(256)), "study: flux".encode("utf-16")):
        binary.write_bytes(content)
        with pytest.raises(ConfigError, match="cannot read"):
            config.load(binary)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_is_no_study(device):
    with pytest.raises(ConfigError, match=device):
        config.load(device)


@pytest.mark.parametrize(
    "name", ["a b.v1.yaml", "it's.yaml", '"x".yaml', "$(id).yaml", "a;b", ".yaml", "-n", "ü.yaml"]
)
def test_a_file_may_have_any_name(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(small.FLUX.read_bytes())
    assert config.load(path) == small.flux()


@pytest.mark.parametrize(
    ("before", "after"), [(b"\xef\xbb\xbf", b""), (b"%YAML 1.1\n---\n", b""), (b"", b"...\n")]
)
def test_a_byte_order_mark_and_the_marks_of_a_document_change_nothing(before, after, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(before + small.FLUX.read_bytes().replace(b"\n", b"\r\n") + after)
    assert config.load(path) == small.flux()


# How a file may spell what stands for `seeds`, and what is read.
WORDS = {
    "3": 3,
    "+3": 3,
    "-0": 0,
    "0.5": 0.5,
    ".5": 0.5,
    "1.": 1.0,
    "-1.5e+3": -1500.0,
    "1.0e-4": 0.0001,
    "1e3": "1e3",
    "1e-4": "1e-4",
    "'010'": "010",
    "on": True,
    "off": False,
    "yes": True,
    "no": False,
    "y": "y",
    "'on'": "on",
    "~": None,
    "2019-01-01": date(2019, 1, 1),
    ".inf": float("inf"),
}


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_a_file_is_read_as_this(word, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(f"seeds: {word}\n")
    assert repr(config.read(path)["seeds"]) == repr(WORDS[word])


@pytest.mark.parametrize("word", [word for word in WORDS if word not in ("3", "+3")])
def test_a_word_that_is_no_number_of_seeds_is_refused(word, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(small.FLUX.read_text().replace("seeds: 10\n", f"seeds: {word}\n"))
    with pytest.raises(ConfigError, match=r"seeds must be .*, seeds\)$") as caught:
        config.load(path)
    in_one_line(caught.value)


def test_a_message_names_the_file_and_the_place(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(changed(("cells", 1, "algorithm"), "reptil")), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).endswith(f"({path}, cells[1].algorithm)")


@pytest.mark.parametrize(
    "path", sorted(small.FLUX.parent.glob("*.yaml")), ids=lambda path: path.name
)
def test_the_studies_that_come_along_are_good(path):
    assert plans.cells(config.load(path))


def test_one_step_size_may_stand_without_a_list():
    one = config.parse(
        changed(("evaluation", "tuning_step_sizes"), 0.01)
    ).evaluation.tuning_step_sizes
    assert one == [0.01]


def test_a_whole_number_is_a_number():
    assert config.parse(changed(("showcase", "phase"), 1)).showcase["phase"] == 1.0


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        small.flux().seeds = 3


KEYS = st.text(max_size=8) | st.sampled_from(
    ["study", "seeds", "cells", "tasks", "protocols", "algorithm", "shots"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def places(node, path=()):
    """Every place of a content."""
    if path:
        yield path
    pairs = (
        node.items()
        if isinstance(node, Mapping)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, value in pairs:
        yield from places(value, (*path, key))


def ends_with_its_place(error, where="config"):
    assert all(
        re.search(rf"\({where}\S*\)$|\({where}, .*\)$", line) for line in str(error).split("\n")
    ), str(error)


def accepted_or_refused(content):
    """Whether a study comes out, or a complaint in the right form; the content stays as it was."""
    before = copy.deepcopy(content)
    try:
        study = config.parse(content)
    except ConfigError as error:
        ends_with_its_place(error)
    else:
        cells_or_complaint(study)
    return repr(content) == repr(before)


def cells_or_complaint(study):
    try:
        assert plans.cells(study)
    except ConfigError as error:
        ends_with_its_place(error, "cells")


checked = settings(deadline=None, derandomize=True, database=None)
PLACES = list(places(small.content()))


@settings(checked, max_examples=100)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_mapping_gives_a_study_or_a_config_error(content):
    assert accepted_or_refused(content)


@settings(checked, max_examples=200)
@given(place=st.sampled_from(PLACES), value=VALUES | st.just(DELETE))
def test_any_value_at_any_place_of_a_good_study_gives_a_study_or_a_config_error(place, value):
    assert accepted_or_refused(changed(place, value))


@settings(checked, max_examples=50)
@given(place=st.sampled_from(PLACES), key=KEYS | st.integers() | st.none() | st.just(date.min))
def test_any_key_at_any_place_of_a_good_study_gives_a_study_or_a_config_error(place, key):
    assert accepted_or_refused(changed(place, {key: 1}))


@settings(checked, max_examples=100)
@given(st.data())
def test_any_damage_to_a_good_study_gives_a_study_or_a_config_error(data):
    content = small.content()
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


def read_or_refused(path):
    try:
        content = config.read(path)
    except ConfigError as error:
        return str(path) in str(error) and "\n" not in str(error)
    return accepted_or_refused(content)


PIECES = [
    *":-?[]{},&*!|>'\"%@`#=~. \n\t",
    "- ",
    ": ",
    "<<",
    "...",
    "---",
    "0x1",
    "1:2",
    "1e3",
    "on",
    "!!int",
    "study",
]


@settings(checked, max_examples=200)
@given(
    content=st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.lists(st.sampled_from(PIECES)).map(lambda pieces: "".join(pieces).encode())
)
def test_any_bytes_give_a_study_or_a_config_error(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    assert read_or_refused(path)


@settings(checked, max_examples=50)
@given(
    at=st.integers(0, 2000),
    cut=st.integers(0, 5),
    piece=st.sampled_from(PIECES) | st.text(max_size=3),
)
def test_any_slip_in_a_good_file_gives_a_study_or_a_config_error(at, cut, piece, tmp_path_factory):
    text, path = small.FLUX.read_text(), tmp_path_factory.getbasetemp() / "slip.yaml"
    path.write_text(text[:at] + piece + text[at + cut :])
    assert read_or_refused(path)


def spelled(study):
    """Everything that the plan spells for the command lines of a study's jobs."""
    yield "study", plans.study_settings(study)
    yield "baselines", plans.baseline_settings(study)
    for cell in plans.cells(study):
        yield "train", plans.train_settings(study, cell)
        yield "evaluate", plans.evaluate_settings(study, cell)
        yield "track", contents.cell_settings(study, cell)


STUDIES = [config.load(path) for path in sorted(small.FLUX.parent.glob("*.yaml"))]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.study)
def test_what_the_plan_spells_is_what_a_job_accepts_and_nothing_is_added(study):
    for kind, wanted in spelled(study):
        assert plans.read_settings(kind, canonical(wanted)) == wanted
        form = config.check(config.SETTINGS[kind], wanted, kind)
        assert canonical(form.model_dump(mode="json", exclude_unset=True)) == canonical(wanted)


def of_a_job(kind, place, value):
    """The settings of one of flux's first jobs with one entry replaced, added or deleted."""
    wanted = next(wanted for name, wanted in spelled(small.flux()) if name == kind)
    return replaced(copy.deepcopy(wanted), place, value)


# Which settings, where, what comes instead, and what the message must name.
MISSPELLED = {
    "no study": ("train", ("study",), DELETE, ["missing key 'study'", "train settings, study"]),
    "a path for a study": ("train", ("study",), "../x", ["study", "'../x'", "lower-case letters"]),
    "no meta-iterations": (
        "train",
        ("meta_iterations",),
        DELETE,
        ["missing key 'meta_iterations'"],
    ),
    "text for meta-iterations": (
        "train",
        ("meta_iterations",),
        "5",
        ["meta_iterations", "'5'", "integer"],
    ),
    "an unknown key": (
        "train",
        ("seeds",),
        3,
        ["unknown key 'seeds'", "choose from algorithm, hyperparameters"],
    ),
    "an unknown key inside": (
        "train",
        ("tasks", "waves"),
        1,
        [
            "unknown key 'waves'",
            "amplitude, domain, family, frequency, grid_",
            "(train settings, tasks.waves)",
        ],
    ),
    "a default left out": ("train", ("tasks", "phase"), DELETE, ["missing key 'phase' in tasks"]),
    "a layer left out": (
        "train",
        ("network", "hidden"),
        DELETE,
        ["missing key 'hidden' in network"],
    ),
    "an unknown algorithm": (
        "train",
        ("algorithm",),
        "mamel",
        ["algorithm", "'mamel'", "fomaml, "],
    ),
    "no family": (
        "train",
        ("tasks", "family"),
        DELETE,
        ["missing key 'family'", "(train settings, tasks.family)"],
    ),
    "a knob left out": (
        "train",
        ("hyperparameters", "shots"),
        DELETE,
        ["fomaml needs shots", "hyperparameters)"],
    ),
    "a knob left out in evaluation": (
        "evaluate",
        ("hyperparameters", "shots"),
        DELETE,
        ["fomaml needs shots"],
    ),
    "a knob at 0": (
        "train",
        ("hyperparameters", "shots"),
        0,
        ["shots", "equal to 1, got 0", "hyperparameters.shots)"],
    ),
    "a knob at nothing": (
        "train",
        ("hyperparameters", "shots"),
        None,
        ["shots", "None", "hyperparameters.shots)"],
    ),
    "a knob at its default": (
        "train",
        ("hyperparameters", "meta_optimizer"),
        "sgd",
        ["meta_optimizer is sgd unless", "leave it out", "(train settings, hyperparameters)"],
    ),
    "an unknown knob": (
        "train",
        ("hyperparameters", "momentum"),
        0.9,
        ["unknown key 'momentum'", "meta_schedule"],
    ),
    "a knob of another": (
        "train",
        ("algorithm",),
        "joint",
        ["joint does not use inner_step_size", "hyperparameters"],
    ),
    "a step below 0": (
        "train",
        ("hyperparameters", "inner_step_size"),
        -0.1,
        ["inner_step_size", "-0.1"],
    ),
    "support outside": (
        "train",
        ("validation", "protocol", "support"),
        [0.0, 9.0],
        ["validation.protocol.support", "inside tasks.domain [-5, 5]"],
    ),
    "an update too few": (
        "train",
        ("validation", "protocol", "updates"),
        0,
        ["validation.protocol.updates", "0"],
    ),
    "a kernel in training": (
        "train",
        ("validation", "protocol", "gaussian_process_length_scale"),
        1.0,
        ["unknown key 'gaussian_process_length_scale'", "shots, support, updates"],
    ),
    "no protocols": ("evaluate", ("protocols",), {}, ["protocols", "{}", "at least 1"]),
    "a path for a protocol": (
        "evaluate",
        ("protocols", "../x"),
        {},
        ["a name must be lower-case", "protocols.../x"],
    ),
    "support without a point": (
        "evaluate",
        ("protocols", "robustness", "support"),
        [0.11, 0.29],
        ["protocols.robustness.support", "point of the grid"],
    ),
    "a step of another in training": (
        "train",
        ("validation", "step_size"),
        0.1,
        ["step_size of fomaml must be null", "(train settings, validation.step_size)"],
    ),
    "no step to adapt with": ("evaluate", ("steps",), [], ["steps", "[]", "at least 1"]),
    "a step to tune and nothing to choose from": (
        "evaluate",
        ("steps",),
        ["tuned"],
        ["tuning_step_sizes", "tuned"],
    ),
    "two ways to a step": (
        "evaluate",
        ("tuning_step_sizes",),
        [0.1],
        ["tuning_step_sizes where steps name tuned"],
    ),
    "a step not said": ("evaluate", ("steps",), DELETE, ["missing key 'steps'"]),
    "a step too few": (
        "evaluate",
        ("steps",),
        ["common"],
        ["fomaml is evaluated with the steps own, common", "steps)"],
    ),
    "an unknown step": (
        "evaluate",
        ("steps",),
        ["best"],
        ["unknown steps 'best'", "'own', 'common', 'tuned'"],
    ),
    "a bank of all waves": ("evaluate", ("test_tasks",), 10**30, ["test_tasks", "100000"]),
    "no length scale": (
        "baselines",
        ("protocols", "standard", "gaussian_process_length_scale"),
        DELETE,
        ["missing key 'gaussian_process_length_scale'"],
    ),
    "a kernel left to itself": (
        "baselines",
        ("gaussian_process", "jitter"),
        DELETE,
        ["missing key 'jitter'"],
    ),
    "no cell": ("track", ("cell",), DELETE, ["missing key 'cell'"]),
    "an unknown role": (
        "track",
        ("cell", "role"),
        "best",
        ["unknown role 'best'", "'published', 'grid'"],
    ),
    "a negative cost": ("track", ("cell", "cost", "tasks"), -1, ["cell.cost.tasks", "-1"]),
    "a study of nothing": ("track", ("study",), {}, ["missing key 'study'", "missing key 'cells'"]),
    "a study without seeds": (
        "study",
        ("seeds",),
        DELETE,
        ["missing key 'seeds'", "(study, seeds)"],
    ),
}


@pytest.mark.parametrize("name", MISSPELLED)
def test_settings_that_the_plan_would_not_spell_are_refused(name):
    kind, place, value, expected = MISSPELLED[name]
    with pytest.raises(ConfigError) as caught:
        plans.read_settings(kind, json.dumps(of_a_job(kind, place, value)))
    missing = [text for text in expected if text not in str(caught.value)]
    assert not missing, str(caught.value)
    where = "study" if kind == "study" else f"{kind} settings"
    ends_with_its_place(caught.value, where)


def test_mini_batches_that_the_grid_cannot_fill_are_refused_in_settings_too():
    text = json.dumps(small.train_settings("reptile", 5, hyperparameters={"inner_steps": 6}))
    with pytest.raises(ConfigError, match=r"6 \* 10 > 50 \(train settings, hyperparameters\)$"):
        plans.read_settings("train", text)


# Text that stands for settings, and what the message must say.
TEXTS = {
    "nothing": ("", "not a JSON text"),
    "a word": ("flux", "not a JSON text"),
    "YAML": ("study: flux", "not a JSON text"),
    "a list": ("[1]", "a JSON object, got list"),
    "a number": ("1", "a JSON object, got int"),
    "null": ("null", "a JSON object, got NoneType"),
    "NaN": ('{"a": NaN}', "a number must be finite, got NaN"),
    "infinity": ('{"a": [1, -Infinity]}', "a number must be finite, got -Infinity"),
    "a duplicate key": ('{"a": 1, "b": 2, "a": 1}', "the duplicate key 'a'"),
    "a duplicate key inside": ('{"a": {"b": 1, "b": 2}}', "the duplicate key 'b'"),
    "a number of 5000 digits": (f'{{"a": {"9" * 5000}}}', "not a JSON text"),
    "a thousand brackets": (f'{{"a": {"[" * 9000}{"]" * 9000}}}', "not a JSON text"),
    "two objects": ("{} {}", "not a JSON text"),
    "an empty object": ("{}", "missing key 'study'"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_no_settings_is_refused(name):
    text, expected = TEXTS[name]
    with pytest.raises(ConfigError, match=expected) as caught:
        plans.read_settings("baselines", text)
    ends_with_its_place(caught.value, "baselines settings")


@settings(checked, max_examples=100)
@given(st.data())
def test_any_value_at_any_place_of_settings_gives_settings_or_a_config_error(data):
    kind, wanted = data.draw(st.sampled_from(list(spelled(STUDIES[-1]))))
    place = data.draw(st.sampled_from(list(places(wanted))))
    text = json.dumps(
        replaced(copy.deepcopy(wanted), place, data.draw(VALUES | st.just(DELETE))), default=str
    )
    try:
        assert plans.read_settings(kind, text) == json.loads(text)
    except ConfigError as error:
        ends_with_its_place(error, "study" if kind == "study" else f"{kind} settings")
