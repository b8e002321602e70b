"""The selection of cells, on cases computed by hand."""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small import ROOT

from metabench.analysis import frames
from metabench.analysis.measured import Study
from metabench.analysis.selection import (
    Selection,
    compares_selected,
    leave_one_seed_out,
    select,
    selection_frequency,
    shown,
)

STEPS = [1.0, 0.5, 0.25]


def once(scores):
    """Scores ``(cell, seed)`` after one update."""
    return np.array(scores, float)[:, None]


def test_the_cell_of_the_least_mean_score_is_selected():
    validation = [[0.3, 0.3, 0.3], [0.2, 0.2, 0.2], [0.1, 0.1, 0.6]]
    assert select(once(validation), STEPS) == (1, 0)


def test_a_diverged_run_counts_as_a_score_of_one():
    validation = [[0.3, 0.3, 0.3], [0.1, 0.1, 1.0], [0.2, 0.2, 0.6]]
    assert select(once(validation), STEPS) == (0, 0)


def test_ties_go_to_the_smaller_meta_step():
    assert select(np.ones((3, 1, 5)), STEPS) == (2, 0)
    assert select(np.ones((3, 4, 5)), [0.5, 0.25, 1.0]) == (1, 0)


def test_the_seed_left_out_has_no_part_in_the_selection():
    validation = [[0.1, 0.1, 0.9], [0.2, 0.2, 0.2]]  # without seed 2 the first is better
    cells, _ = leave_one_seed_out(once(validation), [0.1, 0.1])
    assert_array_equal(cells, [1, 1, 0])


def test_one_seed_cannot_be_left_out():
    with pytest.raises(ValueError, match="at least 2 seeds; got 1"):
        leave_one_seed_out([[[1.0]]], [0.1])


def test_the_selection_frequency_counts_the_resamples_that_select_a_cell():
    validation = [[0.1, 0.1, 0.6], [0.2, 0.2, 0.2], [0.3, 0.3, 0.3]]
    draws = np.array([[0, 1, 2], [2, 2, 0], [1, 1, 1], [1, 0, 0]])
    # Means of cell 0 in the four resamples: 0.27, 0.43, 0.1, 0.1.
    found = selection_frequency(once(validation), STEPS, draws)
    assert_allclose(found, [0.5, 0.5, 0])


def of(validation, test):
    """Return a selection of cells with these scores after one update, ``(cell, seed)``."""
    return selection(once(validation), once(test))


def selection(validation, test, measured=(1, 2, 3, 4)):
    """Return a selection of cells with these scores, ``(cell, update, seed)``."""
    numbers = np.array(measured)[: np.shape(validation)[1]]
    steps = np.zeros(len(test))
    return Selection("standard", "own", [], numbers, np.array(validation), np.array(test), steps)


def test_what_so_many_trials_give_is_the_mean_over_all_choices_of_them():
    rng = np.random.default_rng(0)
    validation, test = rng.random((2, 6, 3))
    found = of(validation, test).after_trials()
    for n in range(1, 7):
        best = [min(some, key=lambda c: validation[c].mean()) for some in combinations(range(6), n)]
        assert found[0][n - 1] == pytest.approx(np.mean([validation[c].mean() for c in best]))
        assert found[1][n - 1] == pytest.approx(np.mean([test[c].mean() for c in best]))


def test_the_held_out_score_is_that_of_the_cell_which_the_other_seeds_select():
    found = of([[0.1, 0.1, 0.9], [0.2, 0.2, 0.2]], [[0.5, 0.6, 0.7], [0.1, 0.2, 0.3]])
    assert found.held_out_score == pytest.approx((0.1 + 0.2 + 0.7) / 3)
    assert np.isnan(of([[0.1], [0.2]], [[0.1], [0.2]]).held_out_score)


def test_the_number_of_updates_is_chosen_with_the_cell_and_for_each_cell():
    validation = [[[0.5, 0.5], [0.2, 0.3], [0.3, 0.3]], [[0.4, 0.4], [0.6, 0.6], [0.9, 0.9]]]
    assert select(validation, STEPS[:2]) == (0, 1)
    found = selection(validation, validation)
    assert_array_equal(found.updates, [2, 1])
    assert_allclose(found.scores, [0.25, 0.4])


def test_the_number_of_updates_is_that_of_the_measured_update():
    validation = [[[0.5, 0.5], [0.4, 0.4], [0.2, 0.3]], [[0.4, 0.4], [0.3, 0.3], [0.9, 0.9]]]
    found = selection(validation, 1 + np.array(validation), measured=(1, 4, 10))
    assert_array_equal(found.updates, [10, 4])
    assert found.held_out_score == pytest.approx(1.25)
    assert_allclose(found.after_trials()[1], [(1.25 + 1.3) / 2, 1.25])


def test_the_seed_left_out_has_no_part_in_the_number_of_updates():
    validation = [[[0.1, 0.5], [0.4, 0.2]]]  # without seed 0 two updates, without seed 1 one
    cells, updates = leave_one_seed_out(validation, [0.1])
    assert_array_equal(cells, [0, 0])
    assert_array_equal(updates, [1, 0])
    found = selection(validation, validation)
    assert found.held_out_score == pytest.approx((0.4 + 0.5) / 2)


def study_of(**roles):
    """A study that has nothing but cells: for each algorithm the role of each."""
    cells = [
        SimpleNamespace(cell=SimpleNamespace(algorithm=name, role=role))
        for name, given in roles.items()
        for role in given
    ]
    return Study(None, {}, cells, {}, [], "")


def test_algorithms_are_represented_by_their_published_cells():
    study = study_of(a=["published", "grid", "published"], b=["published"], c=["grid"])
    assert shown(study, "a", "standard") == [study.cells[0], study.cells[2]]
    assert not compares_selected(study), "c has nothing to select from"


def test_they_are_represented_by_selected_cells_if_one_has_no_published_but_several():
    assert compares_selected(study_of(a=["published", "grid"], b=["grid", "grid"]))
    assert not compares_selected(study_of(a=["published"], b=["grid", "equal-budget"]))


def test_the_pictures_of_the_comparison_of_algorithms_are_of_selected_cells():
    tables = ROOT / "results" / "reference" / "algorithms" / "tables"
    board = frames.read(tables, "leaderboard.csv")
    keys = ["algorithm", "cell", "protocol"]
    selected = {tuple(row) for row in board.loc[board["selected"], keys].to_numpy()}
    for name in ("showcase.parquet", "gallery.parquet"):
        pictured = {tuple(row) for row in frames.read(tables, name)[keys].to_numpy()}
        assert len(pictured) > 20 and pictured <= selected
