from collections import Counter

import pytest
import small

from metabench.learning import engine
from metabench.records.provenance import canonical
from metabench.study import config, plans
from metabench.study.config import ConfigError
from metabench.views.tracking import contents

FLUX = small.flux()
CELLS = plans.cells(FLUX)


def with_grid(group, name, values):
    """The flux study with other values of one hyperparameter in one group."""
    cells = small.content()["cells"]
    cells[group][name] = values
    return small.flux(cells=cells)


def jobs(config):
    """The settings of each cell's jobs by its id."""
    return {
        c.id: (plans.train_settings(config, c), plans.evaluate_settings(config, c))
        for c in plans.cells(config)
    }


def test_the_flux_study_has_23_cells():
    # FOMAML and Reptile 3 x 3 each, Reptile at equal budget, joint training 3, random
    # initialization 1.
    assert Counter(cell.algorithm for cell in CELLS) == {
        "fomaml": 9,
        "reptile": 10,
        "joint": 3,
        "random": 1,
    }
    assert len({cell.id for cell in CELLS}) == 23


def test_exactly_one_cell_of_each_algorithm_is_published_and_has_the_flux_scripts_values():
    published = [cell for cell in CELLS if cell.role == "published"]
    assert sorted(cell.algorithm for cell in published) == sorted(
        {cell.algorithm for cell in CELLS}
    )
    found = {c.algorithm: c.hyperparameters.given for c in published}
    assert found == {
        "fomaml": {
            "meta_step_size": 0.01,
            "meta_batch_size": 3,
            "shots": 10,
            "inner_steps": 1,
            "inner_step_size": 0.02,
        },
        "reptile": {
            "meta_step_size": 0.1,
            "meta_batch_size": 1,
            "shots": 10,
            "inner_steps": 5,
            "inner_step_size": 0.02,
        },
        "joint": {"meta_step_size": 0.01, "meta_batch_size": 1, "shots": 50},
        "random": {},
    }
    assert {c.algorithm: c.meta_iterations for c in published} == {
        "fomaml": 50_000,
        "reptile": 50_000,
        "joint": 50_000,
        "random": 0,
    }


def test_reptile_at_equal_budget_spends_the_point_gradients_of_the_published_fomaml():
    (cell,) = [cell for cell in CELLS if cell.role == "equal-budget"]
    fomaml = small.published("fomaml")
    assert cell.meta_iterations == 180_000  # 50 000 * 180 / 50
    assert (
        cell.meta_iterations * cell.cost.point_gradients
        == fomaml.meta_iterations * fomaml.cost.point_gradients
    )
    assert cell.hyperparameters == small.published("reptile").hyperparameters


def test_every_role_is_a_known_one():
    assert {cell.role for cell in CELLS} == set(config.ROLES)


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
    before, after = jobs(FLUX), jobs(with_grid(group, name, values))
    assert len(after) == len(before) + added
    assert {cell: settings for cell, settings in after.items() if cell in before} == before


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": 25},
        {"seed_block": 5},
        {"source": "another text"},
        {"statistics": {"resamples": 99}},
        {"gaussian_process": {"variance": 1.0}},
    ],
    ids=str,
)
def test_what_a_job_does_not_use_leaves_its_settings_alone(changes):
    assert jobs(small.flux(**changes)) == jobs(FLUX)


def test_what_only_evaluation_uses_leaves_training_alone():
    other = small.flux(evaluation={"tasks": 50}, showcase={"amplitude": 2.0, "phase": 1.0})
    for cell, (train, evaluate) in jobs(other).items():
        assert train == jobs(FLUX)[cell][0]
        assert evaluate != jobs(FLUX)[cell][1]


def test_the_settings_of_a_cell_are_the_same_in_a_study_of_this_cell_alone():
    for cell in CELLS:
        if cell.role == "equal-budget":
            continue  # it needs the cell whose budget it has
        given = {"meta_iterations": cell.meta_iterations, **cell.hyperparameters.given}
        alone = small.flux(cells=[{"algorithm": cell.algorithm, **given}])
        assert jobs(alone) == {cell.id: jobs(FLUX)[cell.id]}


def test_the_order_of_cells_in_a_file_does_not_change_them():
    content = small.content()
    assert jobs(small.flux(cells=content["cells"][::-1])) == jobs(FLUX)


def test_different_cells_of_an_algorithm_have_different_training_settings():
    texts = {canonical(plans.train_settings(FLUX, cell)) for cell in CELLS}
    assert len(texts) == len(CELLS)


def test_seed_blocks_are_aligned_so_that_more_seeds_only_add_blocks():
    assert plans.seed_blocks(FLUX) == ["0-9"]
    assert plans.seed_blocks(small.flux(seeds=25)) == ["0-9", "10-19", "20-24"]
    assert plans.seed_blocks(small.flux(seeds=30))[:2] == plans.seed_blocks(small.flux(seeds=20))
    assert plans.seed_blocks(small.flux(seeds=1)) == ["0-0"]


@pytest.mark.parametrize("seeds", [1, 9, 10, 11, 25])
def test_the_seed_blocks_of_a_study_are_together_its_seeds(seeds):
    blocks = plans.seed_blocks(small.flux(seeds=seeds))
    assert [seed for block in blocks for seed in plans.seeds_of(block)] == list(range(seeds))


@pytest.mark.parametrize("block", ["", "3", "a-b", "5-3", "-1-3", "1-2-3", "1 -2"])
def test_a_misspelled_block_of_seeds_is_refused(block):
    with pytest.raises(ValueError, match="FIRST-LAST"):
        plans.seeds_of(block)


def test_every_cell_is_trained_for_every_block():
    found = list(plans.train_jobs(small.flux(seeds=20)))
    assert len(found) == len(set(found)) == 2 * 23


def test_an_algorithm_that_spends_nothing_has_no_equal_budget():
    with pytest.raises(ConfigError, match=r"cells\[0\].equal_budget"):
        plans.cells(
            small.flux(
                cells=[
                    {"algorithm": "random", "equal_budget": "fomaml"},
                    small.content()["cells"][0],
                ]
            )
        )


def test_the_summary_counts_cells_and_jobs():
    text = plans.summary(FLUX, 2)
    assert "23 cells, 10 seeds, 23 training jobs" in text
    assert all(cell.id in text for cell in CELLS)


def test_a_batch_of_tracking_is_of_one_algorithm_and_no_longer_than_a_shell_takes():
    study = small.flux(seeds=200, seed_block=10)
    found, together = plans.batches(study), [*plans.train_jobs(study)]
    assert Counter(job for batch in found.values() for job in batch) == Counter(together)
    for name, batch in found.items():
        assert {cell.algorithm for cell, _ in batch} == {name.rpartition("_")[0]}
        assert len(batch) <= plans.BATCH
        settings = [canonical(contents.cell_settings(study, cell)) for cell, _ in batch]
        assert sum(map(len, settings)) + 300 * len(batch) < 128 * 1024
    assert list(found)[:2] == ["fomaml_0", "fomaml_1"]


def test_the_expected_time_follows_the_work_and_the_engine(choose_engine):
    cell = next(cell for cell in CELLS if cell.algorithm == "fomaml")
    wide = small.flux(network={"hidden": [128, 128], "activation": "tanh"})
    choose_engine("torch")
    slow = plans.expected_seconds(FLUX, cell, 10)
    assert plans.expected_seconds(FLUX, cell, 20) - plans.START == pytest.approx(
        2 * (slow - plans.START)
    )
    assert slow < plans.expected_seconds(wide, cell, 10) < 4 * slow
    assert plans.PACES.keys() == {*engine.NAMES, "autograd"}
    assert plans.PACES["fused"].operations > plans.PACES["torch"].operations
