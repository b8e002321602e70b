"""The choice of cells, on cases worked out by hand."""

from math import inf, nan

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from metabench.analysis.selection import leave_one_seed_out, select, selection_frequency

NONE_DIVERGED = np.zeros((3, 5), dtype=bool)
STEPS = [1.0, 0.5, 0.25]


def test_the_cell_of_the_least_median_is_selected_not_that_of_the_least_mean():
    validation = [[3, 3, 3, 3, 3], [2, 2, 2, 90, 90], [4, 4, 4, 0, 0]]
    assert select(validation, NONE_DIVERGED, STEPS) == 1


@pytest.mark.parametrize("loss", [1.0, inf, nan])
def test_a_cell_with_a_diverged_run_ranks_last_even_if_its_median_is_the_best(loss):
    validation = np.array([[9, 9, 9, 9, 9], [1, 1, 1, 1, loss], [8, 8, 8, 8, 8]])
    diverged = NONE_DIVERGED.copy()
    diverged[1, 4] = loss == 1  # a loss that is not finite needs no flag
    assert select(validation, diverged, STEPS) == 2


def test_ties_go_to_the_smaller_meta_step():
    assert select(np.ones((3, 5)), NONE_DIVERGED, STEPS) == 2
    assert select(np.ones((3, 5)), NONE_DIVERGED, [0.5, 0.25, 1.0]) == 1


def test_among_cells_that_all_diverged_the_least_median_is_selected():
    diverged = NONE_DIVERGED.copy()
    diverged[:, 0] = True
    assert select(np.array([[3.0], [1.0], [2.0]]) * np.ones(5), diverged, STEPS) == 1


def test_the_seed_left_out_has_no_part_in_the_selection():
    validation = [
        [1, 1, 9],
        [2, 2, 2],
    ]  # without seed 0 or 1: medians 5 and 2; without seed 2: 1 and 2
    assert_array_equal(leave_one_seed_out(validation, np.zeros((2, 3)), [0.1, 0.1]), [1, 1, 0])
    diverged = [[False, False, True], [False, False, False]]
    assert_array_equal(leave_one_seed_out(np.ones((2, 3)), diverged, [0.1, 0.2]), [1, 1, 0])


def test_one_seed_cannot_be_left_out():
    with pytest.raises(ValueError, match="at least 2 seeds; got 1"):
        leave_one_seed_out([[1.0]], [[False]], [0.1])


def test_the_selection_frequency_counts_the_resamples_that_select_a_cell():
    validation = [[1, 1, 9], [2, 2, 2], [3, 3, 3]]
    draws = np.array([[0, 1, 2], [2, 2, 0], [1, 1, 1], [2, 0, 0]])  # medians of cell 0: 1, 9, 1, 1
    assert_allclose(
        selection_frequency(validation, np.zeros((3, 3)), STEPS, draws), [0.75, 0.25, 0]
    )


def test_a_resample_without_the_diverged_seed_may_select_its_cell():
    diverged = [[True, False], [False, False]]
    draws = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
    assert_allclose(
        selection_frequency([[1, 1], [2, 2]], diverged, [0.1, 0.1], draws), [0.25, 0.75]
    )
