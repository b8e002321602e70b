"""Studies with mistakes, and their error messages."""

import copy
import re
from collections.abc import Mapping

import pytest
import small

from metabench.study import config
from metabench.study.config import ConfigError
from metabench.study.jobs import Study

DELETE = object()
"""What stands for an entry that is taken out."""


def rich():
    """The content of a good study that uses everything a study file may say."""
    steps = {"shots": 10, "inner_step_size": [0.01, 0.02], "meta_step_size": 0.1}
    protocol = {"shots": 5, "support": [0.0, 5.0], "updates": 3}
    protocol |= {"gaussian_process_length_scale": 1.5}
    grid = {
        **protocol,
        "shots": [5, 10],
        "support": [[-5.0, 5.0], [0.0, 5.0]],
        "domain": [None, [-8.0, 8.0]],
        "noise": [0.0, 0.1],
        "steps": ["own", "common", "tuned", 0.05, "own x 4"],
        "optimizer": "adam",
        "tasks": {"amplitude": [[0.1, 5.0], [5.0, 10.0]], "frequency": [0.8, 1.2]},
    }
    return small.content(
        study="rich",
        tasks={"family": "sine", "noise": 0.1},
        cells=[
            {
                "algorithm": "reptile",
                "meta_iterations": [100, 200],
                **steps,
                "inner_optimizer": ["sgd", "adam"],
                "network": {"hidden": [[8], [8, 8]], "activation": ["tanh", "relu"]},
                "tasks": {"training_tasks": [50, None]},
                "published": {
                    "inner_step_size": 0.02,
                    "inner_optimizer": "sgd",
                    "meta_iterations": 100,
                    "network": {"hidden": [8], "activation": "tanh"},
                    "tasks": {"training_tasks": None},
                },
            },
            {"algorithm": "fomaml", **steps, "equal_budget": "reptile"},
            {"algorithm": "random", "meta_iterations": 0},
        ],
        protocols={
            "robustness": protocol,
            "wide": grid,
            "shifted": {**protocol, "tasks": {"family": ["sine", "sine-or-line"]}},
        },
    )


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


def checked_study(content, where="study.yaml"):
    """The study of a content, with everything that can be wrong looked at."""
    return Study(config.parse(content, where)).check()


def complaints(content):
    """The lines that a study is refused with."""
    with pytest.raises(ConfigError) as caught:
        checked_study(content)
    return str(caught.value).split("\n")


def complaint(content):
    """The one line that a study is refused with."""
    lines = complaints(content)
    assert len(lines) == 1, lines
    return in_one_line(lines[0])


def in_one_line(error):
    """The text of a complaint: a line short enough to read, with nothing that a terminal obeys."""
    text = str(error)
    assert text.isprintable() and len(text) < 500, text
    return text


def places(node, path=()):
    """Every place of a content."""
    if path:
        yield path
    pairs = []
    if isinstance(node, Mapping):
        pairs = node.items()
    elif isinstance(node, list):
        pairs = enumerate(node)
    for key, value in pairs:
        yield from places(value, (*path, key))


def ends_with_its_place(error, where="study.yaml"):
    """Assert that each line of a complaint says where the mistake stands."""
    place = rf"\({where}(, .+)?\)|\((cells|protocols|showcase|validation).*\)"
    *lines, last = str(error).split("\n")
    lines += [] if re.fullmatch(r"and \d+ more mistakes", last) else [last]
    assert all(re.search(rf"({place})$", line) for line in lines), str(error)


def accepted_or_refused(content):
    """Whether a study comes out, or a complaint in the right form; the content stays as it was."""
    before = copy.deepcopy(content)
    try:
        checked_study(content)
    except ConfigError as error:
        ends_with_its_place(error)
    return repr(content) == repr(before)
