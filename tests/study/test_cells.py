"""The groups of a study file become cells, and the names of cells."""

import io
import itertools
import re
from collections import Counter

import pandas as pd
import pytest
import small
from mistakes import checked_study, complaint, rich

from metabench.learning import algorithms
from metabench.study import cells, limits
from metabench.study.cells import find, path_of
from metabench.study.config import ConfigError

FLUX = small.flux()
STEPS = {"inner_step_size": 0.02, "meta_step_size": 0.01}
FOMAML = {"algorithm": "fomaml", **STEPS}
REPTILE = {"algorithm": "reptile", **STEPS}


def names(*groups, **changes):
    """The names of the cells of some groups."""
    return [cell.name for cell in small.flux(cells=list(groups), **changes).cells]


def test_the_flux_study_has_23_cells():
    # FOMAML and Reptile 3 x 3 each, Reptile at equal budget, joint training 3, random
    # initialization 1.
    counts = Counter(cell.algorithm for cell in FLUX.cells)
    assert counts == {"fomaml": 9, "reptile": 10, "joint": 3, "random": 1}
    assert len({cell.path for cell in FLUX.cells}) == 23


def test_exactly_one_cell_of_each_algorithm_is_published_and_has_the_flux_scripts_values():
    published = {cell.algorithm: cell for cell in FLUX.cells if cell.role == "published"}
    assert len(published) == sum(cell.role == "published" for cell in FLUX.cells)
    found = {name: cell.hyperparameters.model_dump() for name, cell in published.items()}
    outer = {"meta_optimizer": "sgd", "meta_schedule": "constant", "meta_clip": None}
    assert found == {
        "fomaml": {
            **outer,
            "meta_step_size": 0.01,
            "meta_batch_size": 3,
            "shots": 10,
            "inner_steps": 1,
            "inner_step_size": 0.02,
            "queries": None,
        },
        "reptile": {
            **outer,
            "meta_step_size": 0.1,
            "meta_batch_size": 1,
            "shots": 10,
            "inner_steps": 5,
            "inner_step_size": 0.02,
            "inner_optimizer": "sgd",
        },
        "joint": {**outer, "meta_step_size": 0.01, "meta_batch_size": 1, "shots": 50},
        "random": {},
    }
    lengths = {name: cell.meta_iterations for name, cell in published.items()}
    assert lengths == {"fomaml": 50_000, "reptile": 50_000, "joint": 50_000, "random": 0}


def test_a_hyperparameter_that_is_left_out_has_the_default_of_its_algorithm():
    short, long = FOMAML, {**FOMAML, "meta_batch_size": 3, "shots": 10, "meta_iterations": 50_000}
    assert small.flux(cells=[short]).cells == small.flux(cells=[long]).cells


def test_reptile_at_equal_budget_spends_the_point_gradients_of_the_published_fomaml():
    (cell,) = [cell for cell in FLUX.cells if cell.role == "equal-budget"]
    fomaml = small.published("fomaml")
    assert cell.meta_iterations == 180_000  # 50 000 * 180 / 50
    spent = cell.meta_iterations * cell.cost.point_gradients
    assert spent == fomaml.meta_iterations * fomaml.cost.point_gradients
    assert cell.hyperparameters == small.published("reptile").hyperparameters


def test_each_cell_of_a_grid_at_equal_budget_trains_as_long_as_its_own_cost_allows():
    grid = {**REPTILE, "equal_budget": "fomaml", "inner_steps": [1, 5]}
    found = small.flux(cells=[{**FOMAML, "published": {}}, grid]).cells[1:]
    assert [cell.meta_iterations for cell in found] == [900_000, 180_000]


def test_a_budget_may_stand_before_the_cell_whose_budget_it_is():
    budget = {**REPTILE, "equal_budget": "fomaml"}
    found = small.flux(cells=[budget, {**FOMAML, "published": {}}]).cells
    assert [cell.role for cell in found] == ["published", "equal-budget"]


def test_an_algorithm_that_spends_nothing_has_no_equal_budget():
    groups = [{"algorithm": "random", "equal_budget": "fomaml"}, {**FOMAML, "published": {}}]
    assert "(cells[0].equal_budget)" in complaint(small.content(cells=groups))


def test_every_role_is_a_known_one():
    assert {cell.role for cell in FLUX.cells} == set(cells.ROLES)


LISTS = {
    "meta_batch_size": [1, 2],
    "shots": [5, 10],
    "inner_steps": [1, 2, 3],
    "inner_step_size": [0.01, 0.02],
    "meta_step_size": [0.1, 0.2],
    "meta_optimizer": ["sgd", "adam"],
    "meta_schedule": ["constant", "linear", "cosine"],
    "inner_optimizer": ["sgd", "adam"],
}


@pytest.mark.parametrize("name", LISTS)
def test_any_hyperparameter_may_be_a_list(name):
    found = small.flux(cells=[{**REPTILE, name: LISTS[name]}]).cells
    assert [getattr(cell.hyperparameters, name) for cell in found] == LISTS[name]


def test_a_grid_is_the_product_of_its_lists():
    grid = {
        **REPTILE,
        "inner_steps": [1, 2],
        "meta_optimizer": ["sgd", "adam"],
        "meta_iterations": [10, 20],
        "network": {"hidden": [[8], [8, 8]], "activation": ["tanh", "relu"]},
        "tasks": {"training_tasks": [10, None]},
    }
    found = small.flux(cells=[grid]).cells
    points = {
        (
            cell.hyperparameters.inner_steps,
            cell.hyperparameters.meta_optimizer,
            cell.meta_iterations,
            cell.network.hidden,
            cell.network.activation,
            cell.tasks.training_tasks,
        )
        for cell in found
    }
    lists = [1, 2], ["sgd", "adam"], [10, 20], [(8,), (8, 8)], ["tanh", "relu"], [10, None]
    assert len(found) == 64 and points == set(itertools.product(*lists))
    assert {cell.network.initialization for cell in found} == {"uniform"}  # the study's


def test_a_network_given_to_a_group_is_that_of_its_cells_alone():
    one, other = small.flux(cells=[FOMAML, {**REPTILE, "network": {"hidden": [8]}}]).cells
    assert (one.network.hidden, other.network.hidden) == ((64, 64), (8,))


def test_a_published_cell_may_be_told_by_its_network_its_tasks_and_its_length():
    (cell,) = [cell for cell in small.study(rich()).cells if cell.role == "published"]
    assert cell.name == "inner 0.02, meta 0.1, hidden 8, 100 iterations"


def test_a_study_has_as_many_jobs_as_are_allowed_at_once():
    steps = [n / 1000 for n in range(1, 101)]
    grid = {**REPTILE, "inner_step_size": steps, "meta_step_size": steps}
    deep = {**grid, "network": {"hidden": [8, 8, 8]}}  # one network, whose layers do not count
    assert len({cell.path for cell in small.flux(cells=[deep]).cells}) == limits.JOBS


def test_more_blocks_of_seeds_than_anybody_waits_for_are_refused():
    message = complaint(small.content(seeds=10_000, seed_block=1))
    assert "230000 training jobs; a study may have at most 10000" in message


# Names.


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (FOMAML, "inner 0.02, meta 0.01"),
        ({**FOMAML, "meta_batch_size": 3}, "inner 0.02, meta 0.01"),  # a default
        ({**FOMAML, "meta_batch_size": 4}, "inner 0.02, meta 0.01, batch 4"),
        ({**FOMAML, "meta_optimizer": "adam"}, "inner 0.02, meta 0.01, adam"),
        ({**FOMAML, "queries": 7, "shots": 5}, "inner 0.02, meta 0.01, shots 5, queries 7"),
        ({**FOMAML, "meta_step_size": 1e-5}, "inner 0.02, meta 1e-05"),
        ({**FOMAML, "meta_step_size": 0.123456789}, "inner 0.02, meta 0.123456789"),
        ({**FOMAML, "meta_iterations": 50_000}, "inner 0.02, meta 0.01"),
        ({**FOMAML, "meta_iterations": 30_000}, "inner 0.02, meta 0.01, 30000 iterations"),
        ({**FOMAML, "meta_iterations": 0}, "inner 0.02, meta 0.01, untrained"),
        ({**FOMAML, "network": {"hidden": [64, 64]}}, "inner 0.02, meta 0.01"),  # the study's
        ({**FOMAML, "network": {"hidden": [40, 40]}}, "inner 0.02, meta 0.01, hidden 40x40"),
        ({**FOMAML, "network": {"activation": "relu"}}, "inner 0.02, meta 0.01, relu"),
        ({**FOMAML, "network": {"initialization": "normal"}}, "inner 0.02, meta 0.01, normal"),
        ({**FOMAML, "tasks": {"training_tasks": 9}}, "inner 0.02, meta 0.01, training tasks 9"),
        ({**REPTILE, "inner_optimizer": "adam"}, "inner 0.02, meta 0.01, inner adam"),
        ({"algorithm": "random", "meta_iterations": 0}, "untrained"),
    ],
)
def test_a_name_says_in_words_what_is_the_cells_own(group, name):
    assert names(group) == [name]


def test_a_name_says_where_training_tasks_are_without_end_in_a_study_that_has_some():
    tasks = {"family": "sine", "training_tasks": 9}
    found = names({**FOMAML, "tasks": {"training_tasks": [9, None]}}, tasks=tasks)
    assert found == ["inner 0.02, meta 0.01", "inner 0.02, meta 0.01, training tasks without end"]


STUDIES = [small.content(), rich()]


@pytest.mark.parametrize("content", STUDIES, ids=lambda content: content["study"])
def test_names_are_unique_within_a_study(content):
    found = checked_study(content).cells
    assert len({cell.title for cell in found}) == len(found)
    assert len({cell.path for cell in found}) == len(found)


@pytest.mark.parametrize("content", STUDIES, ids=lambda content: content["study"])
def test_a_column_of_names_is_read_as_text_whichever_rows_are_left(content):
    for cell in checked_study(content).cells:
        table = pd.DataFrame({"cell": [cell.name], "algorithm": [cell.algorithm]})
        read = pd.read_csv(io.StringIO(table.to_csv(index=False)))
        assert read["cell"].tolist() == [cell.name]


@pytest.mark.parametrize("name", LISTS)
def test_a_name_stays_when_its_list_grows(name):
    grown = [*LISTS[name][1:], LISTS[name][0]]
    few, many = {**REPTILE, name: LISTS[name][:1]}, {**REPTILE, name: grown}
    one = {**REPTILE, name: LISTS[name][0]}
    assert names(one) == names(few) and set(names(few)) < set(names(many))


def test_a_name_stays_when_another_group_is_added():
    before = names(FOMAML)
    assert before == names(FOMAML, {**FOMAML, "shots": 5}, REPTILE)[:1]


def test_every_name_makes_a_good_path():
    for content in STUDIES:
        for cell in checked_study(content).cells:
            assert re.fullmatch(r"[a-z_]+/[A-Za-z0-9.+_-]{1,120}", cell.path)
            assert not cell.path.endswith("..")


def test_a_long_name_is_cut_and_stays_unique():
    long = ", ".join(f"something {n}" for n in range(40))
    first, second = path_of(f"{long}, a 1"), path_of(f"{long}, a 2")
    assert first != second and len(first) == len(second) == cells.LONGEST
    assert first.startswith("something-0_something-1_")
    assert path_of("a" * cells.LONGEST) == "a" * cells.LONGEST


def test_names_that_differ_in_what_a_path_cannot_say_have_different_paths():
    assert len({path_of(name) for name in ("ä 1", "ö 1", "/ 1", "\\ 1")}) == 4


OWN = """
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from metabench import Algorithm, Cost, InnerStepSize, MetaBatchSize, OuterLoop, Positive, Word
from metabench.learning.algorithms.random import meta_gradient, sample


class Hyperparameters(OuterLoop):
    {fields}


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=lambda h, tasks: {cost},
    sample=sample,
    meta_gradient=meta_gradient,
)
"""


def own(path, fields="pass", cost="Cost(1, 1, 1)"):
    """A user's own algorithm file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OWN.format(fields=fields, cost=cost))
    algorithms.module.cache_clear()
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_hyperparameters_of_an_own_file_are_checked_gridded_and_told(here):
    strength = 'strength: Annotated[Positive, Field(description="How strongly.")] = 0.5'
    group = {"algorithm": own(here / "prox.py", strength), "meta_step_size": 0.1}
    assert names({**group, "strength": [0.5, 2]}) == ["meta 0.1", "meta 0.1, strength 2"]
    message = complaint(small.content(cells=[{**group, "strength": [0.5, -1]}]))
    assert message == "strength must be greater than 0, got -1 (cells[0].strength)"


@pytest.mark.parametrize(
    "field",
    [
        'size: Annotated[Positive, Word("")] = 0.5',
        'flag: Annotated[bool, Word("")] = False',
        'kind: Annotated[Literal["a", "b"], Word("")] = "a"',
        'widths: Annotated[tuple[int, ...], Word("")] = (1,)',
    ],
)
def test_the_name_of_a_cell_of_an_own_file_never_looks_like_a_number(field, here):
    value = {"size": 2.0, "flag": True, "kind": "b", "widths": [3]}[field.split(":")[0]]
    # It requires nothing, so that this hyperparameter is all that its name says.
    fields = f"meta_step_size: Positive = 0.1\n    {field}"
    group = {"algorithm": own(here / "mine.py", fields), field.split(":")[0]: value}
    (name,) = names(group)
    read = pd.read_csv(io.StringIO(f"cell\n{name}\n"))["cell"]
    assert read.tolist() == [name]


@pytest.mark.parametrize("value", ["1", "1e5", "nan", "None", "TRUE", "n/a", "\x1b[2J", "x" * 301])
def test_text_that_makes_a_name_nobody_can_read_is_refused(value, here):
    fields = 'meta_step_size: Positive = 0.1\n    kind: Annotated[str, Word("")] = "a"'
    group = {"algorithm": own(here / "mine.py", fields), "kind": value}
    message = complaint(small.content(cells=[group]))
    assert "the name of a cell must begin with a letter" in message
    assert message.endswith("(cells[0])")


@pytest.mark.parametrize("cost", ["h.strength", "1 / 0", "{}['a\\n']", "None", "(1, 1, 1)"])
def test_an_own_file_whose_cost_fails_is_named_in_one_line(cost, here):
    group = {"algorithm": own(here / "mine.py", cost=cost), "meta_step_size": 0.1}
    message = complaint(small.content(cells=[group]))
    assert message.startswith("cost of ") and message.endswith("(cells[0].algorithm)")


@pytest.mark.parametrize("hyperparameters", ["None", "dict", "dict(a=1)", "BaseModel"])
def test_an_own_file_whose_hyperparameters_are_no_declaration_is_named(hyperparameters, here):
    path = here / "mine.py"
    text = OWN.format(fields="pass", cost="Cost(1, 1, 1)").replace(
        "hyperparameters=Hyperparameters", f"hyperparameters={hyperparameters}"
    )
    path.write_text(text)
    message = complaint(small.content(cells=[{"algorithm": str(path)}]))
    assert "must be a subclass of metabench.Hyperparameters" in message
    assert message.endswith("(cells[0].algorithm)")


def test_a_default_that_its_own_declaration_does_not_allow_is_named(here):
    group = {"algorithm": own(here / "mine.py", "size: Positive = -1.0"), "meta_step_size": 0.1}
    message = complaint(small.content(cells=[group]))
    assert message == "size must be greater than 0, got -1.0 (cells[0].size)"


def test_a_validator_of_an_own_file_that_fails_is_named(here):
    fields = """size: Positive = 1.0

    @model_validator(mode="after")
    def check(self):
        return self.nothing
"""
    group = {"algorithm": own(here / "mine.py", fields), "meta_step_size": 0.1}
    message = complaint(small.content(cells=[group]))
    assert message.startswith("validation of hyperparameters of ") and "no attribute" in message


def test_what_an_own_file_says_in_several_lines_is_one_line(here):
    path = here / "mine.py"
    path.write_text("raise ValueError('one\\ntwo')")
    message = complaint(small.content(cells=[{"algorithm": str(path)}]))
    assert "ValueError: one two" in message


def test_an_own_file_cannot_have_a_hyperparameter_that_every_group_has_as_a_key(here):
    group = {"algorithm": own(here / "mine.py", "network: Positive = 1.0"), "meta_step_size": 0.1}
    message = complaint(small.content(cells=[group]))
    assert "needs a unique name; network of" in message and "(cells[0].algorithm)" in message


def test_two_own_files_with_one_basename_are_refused(here):
    one, other = own(here / "one" / "mine.py"), own(here / "other" / "mine.py")
    groups = [{"algorithm": path, "meta_step_size": 0.1} for path in (one, other)]
    message = complaint(small.content(cells=groups))
    assert "distinguished by the names of their files" in message
    assert "(cells[1].algorithm)" in message
    assert "/one/mine.py" in message and "/other/mine.py" in message


@pytest.mark.parametrize("name", ["least-squares.py", "my algo.py", "Mine.py", "2nd.py", ".py"])
def test_an_own_file_with_a_name_that_tables_cannot_have_is_refused(name, here):
    group = {"algorithm": own(here / "a" / name), "meta_step_size": 0.1}
    message = complaint(small.content(cells=[group]))
    assert "in lower-case letters, digits and underscores" in message
    assert "cells[0].algorithm)" in message


def test_an_own_file_may_lie_in_any_folder(here):
    for folder in ("a b", "../x.y-z", "./A"):
        group = {"algorithm": own(here / folder / "mine.py"), "meta_step_size": 0.1}
        assert names(group) == ["meta 0.1"]


def test_an_own_file_with_the_name_of_a_baseline_is_refused(here):
    group = {"algorithm": own(here / "zero.py"), "meta_step_size": 0.1}
    with pytest.raises(ConfigError, match="zero is that of a baseline"):
        small.study(small.content(cells=[group])).check()


def test_own_hyperparameters_named_like_others_are_marked_in_the_name(here):
    fields = """clip: Annotated[float | None, Field(description="Limit.")] = None
    meta: Annotated[Positive, Field(description="Size.")] = 0.5"""
    group = {"algorithm": own(here / "mine.py", fields), "meta_step_size": 0.1}
    assert names({**group, "clip": 1.0, "meta_clip": 1.0, "meta": 2.0}) == [
        "meta 0.1, clip 1, own clip 1, own meta 2"
    ]
    fields = 'limit: Annotated[float | None, Field(description="Limit.")] = 2.0'
    group = {"algorithm": own(here / "other.py", fields), "meta_step_size": 0.1}
    assert names({**group, "limit": [None, 1.0, 2.0]}) == [
        "meta 0.1, limit none",
        "meta 0.1, limit 1",
        "meta 0.1",
    ]


def test_one_own_file_may_have_several_groups(here):
    path = own(here / "mine.py")
    groups = [{"algorithm": path, "meta_step_size": size} for size in (0.1, 0.2)]
    assert [cell.title for cell in small.flux(cells=groups).cells] == [
        "mine meta 0.1",
        "mine meta 0.2",
    ]


# What a person calls a cell.


@pytest.mark.parametrize(
    "wanted",
    [
        "reptile/published",
        "reptile inner 0.02, meta 0.1",
        "reptile/inner 0.02, meta 0.1",
        "reptile/inner-0.02_meta-0.1",
    ],
)
def test_a_cell_is_found_by_its_role_its_name_and_its_path(wanted):
    assert FLUX.cell(wanted) is find(FLUX.cells, wanted)
    assert FLUX.cell(wanted).title == "reptile inner 0.02, meta 0.1"


def test_every_cell_is_found_by_its_name_and_by_its_path():
    for cell in FLUX.cells:
        assert FLUX.cell(f"{cell.algorithm}/{cell.name}") is cell
        assert FLUX.cell(cell.title) is cell
        assert FLUX.cell(cell.path) is cell


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("reptile/grid", ["matches 8 cells of this study", "reptile/inner 0.01, meta 0.03"]),
        ("reptile/best", ["matches no cell of this study", "reptile/inner 0.01, meta 0.03"]),
        ("reptile", ["matches no cell of this study", "ALGORITHM/NAME, such as reptile/published"]),
        ("mamel/published", ["matches no cell of this study", "fomaml/inner 0.01, meta 0.003"]),
        ("", ["'' matches no cell", "and 3 more"]),
        ("x" * 1000, ["xxx...xxx"]),
        ("\x1b[2J/a", [r"'\x1b[2J/a'"]),
    ],
)
def test_what_is_no_cell_is_answered_with_those_that_there_are(wanted, message):
    with pytest.raises(ConfigError) as caught:
        FLUX.cell(wanted)
    text = str(caught.value)
    assert text.isprintable()
    assert not [part for part in message if part not in text], text


# Trials and budgets.

SPACE = {
    "algorithm": "reptile",
    "meta_iterations": 100,
    "meta_batch_size": [1, 3, 10],
    "inner_steps": [1, 5],
    "inner_step_size": [0.01, 0.02, 0.04],
    "meta_step_size": [0.01, 0.1, 1.0],
    "meta_schedule": ["constant", "linear", "cosine"],
}


def of_space(**more):
    return {cell.name for cell in small.flux(cells=[{**SPACE, **more}]).cells}


def test_trials_are_cells_of_the_product_and_more_begin_with_fewer():
    every = of_space()
    few, more = of_space(trials=6), of_space(trials=20)
    assert len(every) == 162 and len(few) == 6 and len(more) == 20
    assert few < more < every
    assert of_space(trials=1000) == every


def test_trials_are_drawn_evenly_from_each_list():
    drawn = small.flux(cells=[{**SPACE, "trials": 81}]).cells
    for key in ("meta_batch_size", "inner_step_size", "meta_step_size", "meta_schedule"):
        counts = Counter(getattr(cell.hyperparameters, key) for cell in drawn)
        assert len(counts) == 3 and min(counts.values()) >= 17  # 27 on average, deviation 3


def test_trials_stay_where_lists_do_whatever_their_order():
    turned = {**SPACE, "meta_schedule": ["cosine", "linear", "constant"], "trials": 6}
    assert {cell.name for cell in small.flux(cells=[turned]).cells} == of_space(trials=6)


def test_cells_with_a_budget_spend_as_many_point_gradients():
    group = {key: value for key, value in SPACE.items() if key != "meta_iterations"}
    for cell in small.flux(cells=[{**group, "budget": 9_000_000}]).cells:
        spent = cell.meta_iterations * cell.cost.point_gradients
        assert 9_000_000 - cell.cost.point_gradients < spent <= 9_000_000
