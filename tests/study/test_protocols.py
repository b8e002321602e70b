"""The protocols of a study file: each entry is a group, the product of its lists."""

import pytest
import small
from mistakes import complaint, complaints

from metabench.learning.settings import EvaluatedProtocol
from metabench.learning.tasks import SineOrLineDistribution
from metabench.study import limits
from metabench.study.schema import StudyProtocol

ONE = {"shots": 5, "support": [0.0, 5.0], "updates": 3, "gaussian_process_length_scale": 1.5}


def content(**entries):
    """A study with the protocol that it is validated on and others."""
    return small.content(protocols={"robustness": ONE, **entries})


def protocols(study=None, **entry):
    """The protocols of a group called `x`, by name."""
    given = content(x={**ONE, **entry}) | (study or {})
    return small.study(given).check().groups["x"]


def test_a_group_without_lists_is_one_protocol_of_its_own_name():
    assert list(protocols()) == ["x"]


@pytest.mark.parametrize("shots", [[5], [5, 10]])
def test_a_list_makes_a_grid_however_short_and_grids_have_no_figures_of_their_own(shots):
    study = small.study(content(x={**ONE, "shots": shots}))
    assert list(study.groups["x"]) == [f"x shots {n}" for n in shots]
    assert study.single_protocols == ["robustness"]


GRIDS = {
    "shots": ([5, 10], ["x shots 5", "x shots 10"]),
    "updates": ([1, 2], ["x updates 1", "x updates 2"]),
    "queries": ([0, 100], ["x queries 0", "x queries 100"]),
    "bank": ([0, 1], ["x bank 0", "x bank 1"]),
    "noise": ([None, 0, 0.1], ["x noise default", "x noise 0", "x noise 0.1"]),
    "support": ([[-5, 5], [0, 2.5]], ["x support -5 to 5", "x support 0 to 2.5"]),
    "domain": ([None, [-10, 10]], ["x domain default", "x domain -10 to 10"]),
    "placement": (["random", "even"], ["x placement random", "x placement even"]),
    "gap": ([None, [1, 2.5]], ["x gap default", "x gap 1 to 2.5"]),
    "outliers": ([0, 2], ["x outliers 0", "x outliers 2"]),
    "regions": (["support", "distance"], ["x regions support", "x regions distance"]),
    "optimizer": (["sgd", "adam"], ["x optimizer sgd", "x optimizer adam"]),
    "steps": ([["own"], ["own", "tuned"]], ["x steps own", "x steps own and tuned"]),
    "curve": ([False, True], ["x curve false", "x curve true"]),
    "gaussian_process_length_scale": (
        [1, 2.5],
        ["x gaussian process length scale 1", "x gaussian process length scale 2.5"],
    ),
}


@pytest.mark.parametrize("key", GRIDS)
def test_any_key_may_be_a_list_and_a_name_says_the_value(key):
    values, names = GRIDS[key]
    found = protocols(**{key: values})
    assert list(found) == names
    dumped = [protocol.model_dump(mode="json")[key] for protocol in found.values()]
    assert dumped == values


def test_no_key_is_missing_above():
    assert GRIDS.keys() | {"tasks"} == StudyProtocol.model_fields.keys()


def test_a_grid_is_measured_after_1_2_4_updates_and_a_single_protocol_after_each():
    (one,), (of_grid,) = protocols(updates=6).values(), protocols(updates=6, shots=[5]).values()
    assert list(one.measured) == [0, 1, 2, 3, 4, 5, 6]
    assert list(of_grid.measured) == [0, 1, 2, 4, 6]


@pytest.mark.parametrize("entry", [{"shots": [5]}, {"tasks": {"amplitude": [[1, 2]]}}, {}])
def test_which_updates_are_measured_can_be_said(entry):
    for curve, count in ((True, 7), (False, 5)):
        (found,) = protocols(updates=6, curve=curve, **entry).values()
        assert len(found.measured) == count


def test_numbers_that_are_no_interval_are_joined_by_and():
    found = protocols(steps=[[0.05, 0.01], ["own"]])
    assert list(found) == ["x steps 0.05 and 0.01", "x steps own"]
    digits = {"tasks": {"family": "digits"}, "showcase": {"image": 0}}
    found = protocols(digits, tasks={"classes": [[7, 8], [7, 8, 9]]})
    assert list(found) == ["x classes 7 and 8", "x classes 7 and 8 and 9"]


def test_a_group_is_the_product_of_its_lists_and_those_of_its_tasks():
    tasks = {"amplitude": [[0.1, 5.0], [5.0, 10.0]], "frequency": [1.0, 2.0]}
    found = protocols(shots=[5, 10], noise=[0.0, 0.1], updates=7, tasks=tasks)
    assert len(found) == 8
    assert list(found)[-1] == "x shots 10, noise 0.1, amplitude 5 to 10"
    last = found["x shots 10, noise 0.1, amplitude 5 to 10"]
    assert (last.shots, last.noise, last.updates) == (10, 0.1, 7)
    assert last.tasks == {"amplitude": [5.0, 10.0], "frequency": [1.0, 2.0]}


def test_a_protocol_keeps_its_name_when_its_list_grows_or_another_group_is_added():
    assert set(protocols(shots=[5])) < set(protocols(shots=[10, 5]))
    more = small.study(content(x={**ONE, "shots": [5]}, y=ONE)).groups
    assert list(more["x"]) == list(protocols(shots=[5]))


def test_a_protocol_may_have_tasks_of_its_own():
    tasks = {"amplitude": [5, 10], "phase": [0, 1], "frequency": [2, 3], "sign": "minus"}
    (found,) = protocols(tasks=tasks).values()
    flux = small.flux().config.tasks
    changed = found.distribution(flux)
    assert changed.amplitude == (5.0, 10.0) and changed.frequency == (2.0, 3.0)
    assert changed.sign == "minus"
    assert (changed.domain, changed.grid_points) == (flux.domain, flux.grid_points)


def test_a_protocol_may_have_tasks_of_another_family_which_keep_what_all_families_share():
    study = {"tasks": {"family": "sine", "amplitude": [1, 2], "grid_points": 60, "noise": 0.2}}
    (found,) = protocols(study, tasks={"family": "sine-or-line", "lines": 1.0}).values()
    changed = found.distribution(small.study(content() | study).config.tasks)
    assert isinstance(changed, SineOrLineDistribution)
    assert (changed.lines, changed.grid_points, changed.noise) == (1.0, 60, 0.2)
    assert changed.amplitude == (0.1, 5.0)  # its own


def test_families_may_be_a_grid():
    found = protocols(tasks={"family": ["sine", "sine-or-line"]})
    assert list(found) == ["x family sine", "x family sine-or-line"]


def test_a_key_that_one_family_of_a_grid_lacks_is_refused():
    tasks = {"family": ["sine", "sine-or-line"], "frequency": [1, 2]}
    message = complaint(content(x={**ONE, "tasks": tasks}))
    assert "unknown key 'frequency'" in message and "(protocols.x.tasks.frequency)" in message


def test_the_same_tasks_in_other_words_are_the_same_protocol():
    (whole,) = protocols(tasks={"amplitude": [1, 2]}).values()
    (points,) = protocols(tasks={"amplitude": [1.0, 2.0]}).values()
    assert whole.model_dump_json() == points.model_dump_json()


def test_the_query_domain_of_a_protocol_may_be_wider_than_that_of_training():
    (found,) = protocols(domain=[-10, 10], support=[5, 10]).values()
    tasks = found.distribution(small.flux().config.tasks)
    assert tasks.grid[0].item() == -10 and tasks.grid[-1].item() == 10 and len(tasks.grid) == 50


def test_support_lies_inside_the_domain_of_its_own_protocol():
    message = complaint(content(x={**ONE, "domain": [0, 4]}))
    assert message == "support must lie inside the domain [0, 4], got [0, 5] (protocols.x.support)"


def test_support_holds_a_point_of_the_grid_where_losses_are_measured_on_the_grid():
    between = {**ONE, "support": [0.11, 0.29]}  # the nearest points lie at 0.102 and 0.306
    assert "must hold a point of the grid" in complaint(content(x=between))
    (fresh,) = protocols(support=[0.11, 0.29], queries=100).values()
    assert fresh.queries == 100
    on_a_point = small.flux().config.tasks.grid[25].item()  # 5/49, less a rounding error
    assert list(protocols(support=[on_a_point, 0.2])) == ["x"]
    assert "must hold a point" in complaint(content(x={**ONE, "support": [5 / 49, 0.2]}))


def test_noise_and_rule_of_the_updates_are_those_of_the_study_unless_a_protocol_says_otherwise():
    noisy = {"tasks": {"family": "sine", "noise": 0.3}}
    tasks = small.study(content() | noisy).config.tasks
    (plain,), (clean,) = protocols(noisy).values(), protocols(noisy, noise=0.0).values()
    assert plain.distribution(tasks).noise == 0.3 and clean.distribution(tasks).noise == 0.0
    assert plain.optimizer is None and plain.steps is None


def test_step_rules_are_own_common_tuned_a_number_or_a_multiple_of_own():
    (found,) = protocols(
        steps=["own", "common", "tuned", 0.05, 1, "0.1", "own x 4", "own x 0.5"]
    ).values()
    assert found.steps == (
        "own",
        "common",
        "tuned",
        "fixed 0.05",
        "fixed 1",
        "fixed 0.1",
        "own x 4",
        "own x 0.5",
    )


def test_a_step_rule_is_read_back_as_it_was_written():
    (found,) = protocols(steps=["own", 0.05, 1e-5, "own x 4"]).values()
    dumped = found.model_dump(include=set(EvaluatedProtocol.model_fields))
    assert EvaluatedProtocol.model_validate(dumped).steps == found.steps


@pytest.mark.parametrize(
    "rule", ["", "own x", "own x 0", "own x -1", "x 4", "own x four", "fixed", "fixed nan", "0x1"]
)
def test_what_is_no_step_rule_is_refused(rule):
    message = complaint(content(x={**ONE, "steps": [rule]}))
    assert message.startswith("a step rule is own") and message.endswith("(protocols.x.steps[0])")


def test_a_study_may_be_validated_on_a_protocol_of_a_grid():
    entries = {"x": {**ONE, "shots": [5, 10]}, "robustness": ONE}
    study = small.content(protocols=entries, validation={"protocol": "x shots 10"})
    settings = small.study(study).train_settings(small.study(study).cells[0])
    assert settings.validation.protocol.shots == 10


def test_an_unknown_protocol_to_validate_on_is_answered_with_those_that_there_are():
    study = content(x={**ONE, "shots": [*range(1, 21)]}) | {"validation": {"protocol": "x"}}
    message = complaint(study)
    assert "unknown protocol 'x'; choose from robustness, x shots 1, x shots 2," in message
    assert "and 11 more (validation.protocol)" in message


def test_each_mistake_of_a_group_has_a_line_of_its_own():
    messages = complaints(content(x={**ONE, "shots": [0, 5], "noise": -1}, y={**ONE, "updates": 0}))
    assert [line[line.rindex("(") :] for line in messages] == [
        "(protocols.x.shots)",
        "(protocols.x.noise)",
        "(protocols.y.updates)",
    ]


def test_a_study_has_as_many_protocols_as_are_allowed():
    entry = {**ONE, "shots": [*range(1, 101)], "updates": [*range(1, 20)]}
    assert len(small.study(content(x=entry)).protocols) == 1901
    entry["updates"].append(20)
    assert f"{limits.PROTOCOLS} protocols at most, got 2001" in complaint(content(x=entry))


def test_more_evaluations_than_anybody_waits_for_are_refused():
    entries = {f"p{n}": ONE for n in range(200)}
    few = content(**entries) | {"seeds": 40, "seed_block": 1}  # 23 cells
    message = complaint(few | {"seeds": 44})
    assert (
        "make 203412 evaluations; a study may have at most 200000" in message
        and "(protocols)" in message
    )
    small.study(few).check()
