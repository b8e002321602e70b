"""The score: its definition, and that the cap comes before any averaging."""

import numpy as np
from numpy.testing import assert_array_equal

from metabench.learning.scores import scores


def test_a_score_is_the_share_of_the_zero_predictors_loss_at_most_one():
    assert_array_equal(scores([0.0, 1.0, 2.0, 9.0], [2.0, 2.0, 2.0, 2.0]), [0, 0.5, 1, 1])


def test_what_is_not_finite_has_the_score_one():
    assert_array_equal(scores([np.inf, np.nan, 1e300], 1.0), [1, 1, 1])


def test_where_the_function_is_zero_only_an_exact_prediction_is_perfect():
    assert_array_equal(scores([0.0, 1e-30], 0.0), [0, 1])


def test_each_loss_is_capped_before_the_mean():
    losses = np.array([[0.1, 0.1, 0.1, 1e6]])
    assert scores(losses, 1.0).mean() == np.mean([0.1, 0.1, 0.1, 1.0])


def test_every_task_has_its_own_normalizer():
    assert_array_equal(scores(np.ones((2, 3)), [1.0, 2.0, 4.0]), [[1, 0.5, 0.25]] * 2)
