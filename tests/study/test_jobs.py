"""The settings of jobs: everything that a result depends on, and nothing else."""

import pytest
import small
from mistakes import rich

from metabench.learning.settings import BaselineSettings, EvaluateSettings, TrainSettings
from metabench.records.provenance import canonical
from metabench.study.config import ConfigError
from metabench.study.jobs import seeds_of

FLUX = small.flux()
PROTOCOL = FLUX.config.protocols["standard"]


def serialized(settings):
    """Settings as headers have them: equal text is an equal job."""
    return canonical(settings.model_dump(mode="json"))


def trained(study):
    """The training settings of each cell by its path."""
    return {cell.path: serialized(study.train_settings(cell)) for cell in study.cells}


def evaluated(study):
    """The evaluation settings of each cell by its path and group of protocols."""
    return {
        (cell.path, group): serialized(study.evaluate_settings(cell, group))
        for cell in study.cells
        for group in study.groups
    }


def baselines(study):
    """The settings of the baselines by group of protocols."""
    return {group: serialized(study.baseline_settings(group)) for group in study.groups}


def jobs(study):
    """The settings of all jobs."""
    return {**trained(study), **evaluated(study), **baselines(study)}


def with_grid(group, name, values):
    """The flux study with other values of one hyperparameter in one group."""
    cells = small.content()["cells"]
    cells[group][name] = values
    return small.flux(cells=cells)


@pytest.mark.parametrize(
    ("group", "name", "values", "added"),
    [
        (0, "meta_step_size", [0.001, 0.003, 0.01, 0.03], 3),
        (1, "inner_step_size", [0.01, 0.02, 0.04, 0.08], 3),
        (3, "meta_step_size", [0.003, 0.01, 0.03, 0.1], 1),
    ],
)
def test_a_new_grid_value_adds_cells_and_leaves_the_jobs_of_the_others_alone(
    group, name, values, added
):
    after = with_grid(group, name, values)
    assert len(after.cells) == len(FLUX.cells) + added
    assert jobs(FLUX).items() <= jobs(after).items()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("meta_optimizer", ["adam", "sgd"]),
        ("meta_iterations", [50_000, 5]),
        ("network", {"hidden": [[64, 64], [8]]}),
        ("network", {"activation": ["tanh", "relu"]}),
        ("tasks", {"training_tasks": [None, 5]}),
    ],
)
def test_what_was_one_value_may_become_a_grid_and_leaves_the_jobs_with_this_value_alone(
    name, values
):
    content = small.content()
    del content["cells"][1]["published"]  # it would have to say which of the new cells it is
    before = small.study(content)
    content["cells"][1][name] = values
    after = small.study(content)
    assert len(after.cells) == len(before.cells) + 9
    assert jobs(before).items() <= jobs(after).items()


def test_another_group_of_cells_leaves_the_jobs_of_the_others_alone():
    more = [{"algorithm": "ridge", "meta_step_size": 0.1}, *small.content()["cells"]]
    assert jobs(FLUX).items() <= jobs(small.flux(cells=more)).items()


@pytest.mark.parametrize("grid", [{}, {"shots": [5, 10], "noise": [0.0, 0.1]}])
def test_another_group_of_protocols_leaves_the_jobs_of_the_others_alone(grid):
    more = {"new": {**PROTOCOL, **grid}, **FLUX.config.protocols}
    after = small.flux(protocols=more)
    assert jobs(FLUX).items() <= jobs(after).items()
    assert trained(FLUX) == trained(after)


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": 25},
        {"seed_block": 5},
        {"source": "another text"},
        {"statistics": {"resamples": 99}},
    ],
    ids=str,
)
def test_what_a_job_does_not_use_leaves_its_settings_alone(changes):
    assert jobs(small.flux(**changes)) == jobs(FLUX)


def test_the_name_of_a_study_is_no_setting_of_its_jobs():
    """So its held-out tasks are those of every other study with the same distribution."""
    assert jobs(small.flux(study="another")) == jobs(FLUX)


def with_protocols(**changes):
    """The flux study with some keys of each protocol changed."""
    return small.flux(
        protocols={name: {**known, **changes} for name, known in FLUX.config.protocols.items()}
    )


@pytest.mark.parametrize(
    "other",
    [
        small.flux(gaussian_process={"variance": 1.0}),
        with_protocols(gaussian_process_length_scale=9.0),
    ],
    ids=["kernel", "length scale"],
)
def test_what_only_the_baselines_use_leaves_cells_alone(other):
    assert trained(other) == trained(FLUX) and evaluated(other) == evaluated(FLUX)
    assert all(baselines(other)[group] != baselines(FLUX)[group] for group in FLUX.groups)


def test_the_step_rules_of_a_protocol_leave_training_and_baselines_alone():
    other = with_protocols(steps=["own", 0.05])
    assert trained(other) == trained(FLUX) and baselines(other) == baselines(FLUX)
    assert all(evaluated(other)[job] != evaluated(FLUX)[job] for job in evaluated(FLUX))


@pytest.mark.parametrize(
    "changes", [{"shots": 3}, {"updates": 3}, {"noise": 0.1}, {"optimizer": "adam"}], ids=str
)
def test_what_else_a_protocol_says_is_part_of_the_settings_of_those_who_adapt(changes):
    other = with_protocols(**changes)
    assert all(trained(other)[cell] != trained(FLUX)[cell] for cell in trained(FLUX))
    assert all(evaluated(other)[job] != evaluated(FLUX)[job] for job in evaluated(FLUX))


def test_what_only_evaluation_uses_leaves_training_alone():
    other = small.flux(evaluation={"tasks": 50}, showcase={"amplitude": 2.0, "phase": 1.0})
    assert trained(other) == trained(FLUX)
    assert all(evaluated(other)[job] != evaluated(FLUX)[job] for job in evaluated(FLUX))


def test_the_step_sizes_to_tune_with_are_settings_of_those_who_tune_alone():
    other = small.flux(evaluation={"tuning_step_sizes": [0.1]})
    changed = {job for job in evaluated(FLUX) if evaluated(other)[job] != evaluated(FLUX)[job]}
    assert {path.split("/")[0] for path, _ in changed} == {"joint", "random"}
    assert trained(other) == trained(FLUX)


def test_the_common_step_is_a_training_setting_of_those_without_an_own_step_alone():
    other = small.flux(evaluation={"common_step_size": 0.1})
    changed = {cell for cell in trained(FLUX) if trained(other)[cell] != trained(FLUX)[cell]}
    assert {path.split("/")[0] for path in changed} == {"joint", "random"}


def test_the_settings_of_a_cell_are_the_same_in_a_study_of_this_cell_alone():
    for cell in FLUX.cells:
        given = {"meta_iterations": cell.meta_iterations, **cell.hyperparameters.model_dump()}
        alone = small.flux(cells=[{"algorithm": cell.algorithm, **given}])
        assert trained(alone).items() <= trained(FLUX).items()
        assert evaluated(alone).items() <= evaluated(FLUX).items()


def test_the_order_of_cells_in_a_file_does_not_change_them():
    assert jobs(small.flux(cells=small.content()["cells"][::-1])) == jobs(FLUX)


@pytest.mark.parametrize("content", [small.content(), rich()], ids=["flux", "rich"])
def test_different_cells_have_different_training_settings(content):
    found = trained(small.study(content))
    assert len(set(found.values())) == len(found)


def differences(one, other, place=""):
    """The places at which two settings differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(one.get(key), other.get(key), f"{place}.{key}".lstrip("."))
    elif one != other:
        yield place


@pytest.mark.parametrize(
    ("key", "values", "place"),
    [
        ("inner_step_size", [0.01, 0.02], "hyperparameters.inner_step_size"),
        ("meta_optimizer", ["sgd", "adam"], "hyperparameters.meta_optimizer"),
        ("queries", [None, 9], "hyperparameters.queries"),
        ("meta_iterations", [5, 6], "meta_iterations"),
        ("network", {"hidden": [[8], [9]]}, "network.hidden"),
        ("network", {"activation": ["tanh", "relu"]}, "network.activation"),
        ("tasks", {"training_tasks": [None, 5]}, "tasks.training_tasks"),
    ],
)
def test_two_cells_that_differ_in_one_thing_have_settings_that_differ_in_this_alone(
    key, values, place
):
    group = {"algorithm": "fomaml", "inner_step_size": 0.01, "meta_step_size": 0.1, key: values}
    study = small.flux(cells=[group])
    one, other = (study.train_settings(cell).model_dump(mode="json") for cell in study.cells)
    assert list(differences(one, other)) == [place]


def test_settings_hold_what_a_cell_has_of_its_own():
    study = small.study(rich())
    cell = study.cell("reptile/published")
    settings = study.train_settings(cell)
    assert settings.network.hidden == (8,) and settings.meta_iterations == 100
    assert settings.tasks.training_tasks is None and settings.tasks.noise == 0.1
    assert study.evaluate_settings(cell, "wide").network == settings.network
    few = study.cell("reptile/inner 0.01, meta 0.1, hidden 8, training tasks 50, 100 iterations")
    assert study.train_settings(few).tasks.training_tasks == 50
    # What is trained on is nothing to evaluation.
    assert study.evaluate_settings(few, "wide").tasks.training_tasks is None


@pytest.mark.parametrize("content", [small.content(), rich()], ids=["flux", "rich"])
def test_settings_are_read_back_from_what_is_written_of_them(content):
    study = small.study(content)
    for cell in study.cells[::7]:
        h = cell.hyperparameters
        for group in study.groups:
            wanted = study.evaluate_settings(cell, group)
            dumped = wanted.model_dump(mode="json")
            read = EvaluateSettings.model_validate({**dumped, "hyperparameters": h})
            assert read == wanted
        dumped = study.train_settings(cell).model_dump(mode="json")
        assert type(h).model_validate(dumped["hyperparameters"]) == h
        read = TrainSettings.model_validate({**dumped, "hyperparameters": h})
        assert read == study.train_settings(cell)
    for group in study.groups:
        wanted = study.baseline_settings(group)
        assert BaselineSettings.model_validate(wanted.model_dump(mode="json")) == wanted


# Blocks of seeds and jobs.


def test_seed_blocks_are_aligned_so_that_more_seeds_only_add_blocks():
    assert FLUX.blocks == ["0-9"]
    assert small.flux(seeds=25).blocks == ["0-9", "10-19", "20-24"]
    assert small.flux(seeds=30).blocks[:2] == small.flux(seeds=20).blocks
    assert small.flux(seeds=1).blocks == ["0-0"]


@pytest.mark.parametrize("seeds", [1, 9, 10, 11, 25])
def test_the_seed_blocks_of_a_study_are_together_its_seeds(seeds):
    blocks = small.flux(seeds=seeds).blocks
    assert [seed for block in blocks for seed in seeds_of(block)] == list(range(seeds))


@pytest.mark.parametrize(
    "block",
    [
        "",
        "3",
        "a-b",
        "5-3",
        "-1-3",
        "1-2-3",
        "1 -2",
        "01-2",
        "0-1000",
        "9999-10000",
        "0-9\n",
        "٣-٤",
    ],
)
def test_a_misspelled_block_of_seeds_is_refused(block):
    with pytest.raises(ValueError, match="FIRST-LAST"):
        seeds_of(block)


def test_every_cell_is_trained_for_every_block_and_evaluated_under_every_group():
    study = small.flux(seeds=20)
    assert len(study.train_jobs) == len(set(study.train_jobs)) == 2 * 23
    assert len(study.evaluate_jobs) == len(set(study.evaluate_jobs)) == 2 * 23 * 2


def test_an_unknown_group_of_protocols_is_answered_with_those_that_there_are():
    assert FLUX.group("robustness") == "robustness"
    with pytest.raises(ConfigError, match="'robust'; choose from standard, robustness"):
        FLUX.group("robust")


def test_a_large_study_is_worked_out_in_seconds():
    """900 cells and 200 protocols took 0.6 s; a check of each anew for each cell takes 14 s."""
    steps = [n / 1000 for n in range(1, 31)]
    cells = [{**small.content()["cells"][1], "inner_step_size": steps, "meta_step_size": steps}]
    del cells[0]["published"]
    grid = {**PROTOCOL, "shots": [*range(1, 21)], "updates": [*range(1, 11)]}
    study = small.flux(cells=cells, protocols={"robustness": PROTOCOL, "grid": grid}).check()
    whole = [study.evaluate_settings(job.cell, job.group) for job in study.evaluate_jobs]
    assert len(whole) == 1800 and len(whole[1].protocols) == 200
    assert (
        whole[1].protocols["grid shots 1, updates 1"]
        is whole[3].protocols["grid shots 1, updates 1"]
    )


def test_the_tasks_of_a_protocol_are_met_and_never_trained_on():
    protocols = small.content()["protocols"]
    protocols["robustness"] = protocols["robustness"] | {"tasks": {"amplitude": [6.0, 7.0]}}
    shifted = small.flux(protocols=protocols)
    for cell in shifted.cells:
        assert shifted.train_settings(cell).tasks == FLUX.config.tasks
    (one, *_) = shifted.cells
    met = shifted.evaluate_settings(one, "robustness").protocols["robustness"]
    assert met.distribution(FLUX.config.tasks).amplitude == (6.0, 7.0)
