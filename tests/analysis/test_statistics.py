"""Statistics: values computed by hand, coverage on simulated losses, diverged runs, and the
selection of cells.
"""

from dataclasses import replace
from itertools import product
from math import inf, nan, sqrt
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats

from metabench.analysis.statistics.estimates import cvar, iqm, median, p95, quantile
from metabench.analysis.statistics.intervals import crossed_interval, determined, mean_interval
from metabench.analysis.statistics.losses import ROUNDING
from metabench.analysis.statistics.pairs import (
    detectable,
    difference_interval,
    probability_of_improvement,
    ratio_interval,
)
from metabench.analysis.statistics.ranking import ranks
from metabench.analysis.statistics.resampling import resampled, resamples

SEEDS_DOMINATE, BALANCED, TASKS_DOMINATE = (0.8, 0.1, 0.1), (1 / 3, 1 / 3, 1 / 3), (0.05, 0.8, 0.15)


def crossed_normal(shares, seeds, tasks, rng):
    """z = seed + task + residual with these shares of a variance of 1, ``(seed, task)``."""
    shapes = (seeds, 1), (1, tasks), (seeds, tasks)
    return sum(
        sqrt(share) * rng.standard_normal(shape)
        for share, shape in zip(shares, shapes, strict=True)
    )


def coverage(interval, shares, truth, seeds, replications, tasks=100):
    """Share of replications whose interval of z holds the truth."""
    rng = np.random.default_rng(20_240 + seeds)
    found = (interval(crossed_normal(shares, seeds, tasks, rng)) for _ in range(replications))
    return np.mean([lower <= truth <= upper for _, lower, upper in found])


def standard_error(share, replications):
    return sqrt(share * (1 - share) / replications)


@pytest.fixture
def losses():
    """Skewed losses of 5 seeds and 40 tasks."""
    return np.exp(crossed_normal(BALANCED, 5, 40, np.random.default_rng(1)))


# ---- the mean


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("shares", [SEEDS_DOMINATE, BALANCED, TASKS_DOMINATE])
def test_the_interval_of_the_mean_covers_what_it_states(shares, seeds):
    covered = coverage(lambda z: mean_interval(z, scale="raw"), shares, 0, seeds, 2000)
    assert abs(covered - 0.95) < 4 * standard_error(0.95, 2000)


@pytest.mark.parametrize("seeds", [5, 10])
def test_the_interval_of_the_mean_covers_heavy_tailed_losses(seeds):
    covered = coverage(lambda z: mean_interval(np.exp(z)), TASKS_DOMINATE, np.exp(0.5), seeds, 1000)
    assert covered > 0.95 - 3 * standard_error(0.95, 1000)


def test_the_log_scale_covers_skewed_means_better_than_the_raw_scale():
    log = coverage(lambda z: mean_interval(np.exp(z)), BALANCED, np.exp(0.5), 5, 1000)
    raw = coverage(lambda z: mean_interval(np.exp(z), scale="raw"), BALANCED, np.exp(0.5), 5, 1000)
    assert log - raw > 2 * standard_error(0.9, 1000)


def test_a_lower_confidence_covers_less():
    covered = coverage(lambda z: mean_interval(z, 0.8, scale="raw"), BALANCED, 0, 5, 2000)
    assert abs(covered - 0.8) < 4 * standard_error(0.8, 2000)


def test_the_interval_of_the_mean_is_the_one_worked_out_by_hand():
    # Seed means 1.5, 4.5, task means 2, 4, residuals +-0.5: mean squares 9, 4, 1, so variance 12/4,
    # degrees 144/98.
    t, x = stats.t.ppf(0.975, 144 / 98), np.array([[1, 2], [3, 6]])
    half = t * sqrt(3)
    assert_allclose(mean_interval(x, scale="raw"), (3, 3 - half, 3 + half))
    # On the log scale the mean 13 has the variance 3 / 13^2 and the curvature 1.
    half = sqrt(t**2 * 3 / 13**2 + (2 * 1.959964**2 * 3 / 13**2) ** 2)
    below, above = half / (1 + half / 4), half * (1 + half / 4)
    expected = 13, 13 * np.exp(-below), 13 * np.exp(above)
    assert_allclose(mean_interval(x + 10, scale="log"), expected)
    # On the logit scale the mean 0.3 has the variance 0.03 / 0.21^2, of which 0.3 count as skew,
    # and the curvature 1 - 0.6.
    half = sqrt(t**2 * 0.03 / 0.21**2 + (2 * 1.959964**2 * 0.4 * 0.3) ** 2)
    below, above = half / (1 + 0.1 * half), half * (1 + 0.1 * half)
    bounds = special.expit(special.logit(0.3) + np.array([-below, above]))
    assert_allclose(mean_interval(x / 10, scale="logit"), (0.3, *bounds))


def test_an_interval_says_something_of_a_mean_that_one_value_rules():
    scores = np.ones((10, 400))
    scores[3, 5] = 0.1
    estimate, lower, upper = mean_interval(scores, scale="logit")
    assert 0.9 < lower < 0.999 < estimate < upper < 1


def test_the_interval_of_a_share_is_the_mirror_of_that_of_the_rest(losses):
    share = losses / losses.max()
    estimate, lower, upper = mean_interval(share, scale="logit")
    assert_allclose(mean_interval(1 - share, scale="logit"), (1 - estimate, 1 - upper, 1 - lower))


def test_where_seeds_hardly_differ_the_interval_is_the_t_interval_on_the_log_scale(losses):
    x = 1 + losses / 100
    _, lower, upper = mean_interval(x, scale="raw")
    bounds = x.mean() * np.exp((np.array([lower, upper]) / x.mean()) - 1)
    assert_allclose(mean_interval(x)[1:], bounds, rtol=1e-4)


def plain_t_interval(x):
    """The t interval of the log of the mean, whatever the skewness."""
    estimate, _, upper = mean_interval(x, scale="raw")
    half = upper / estimate - 1
    return estimate, estimate * np.exp(-half), estimate * np.exp(half)


@pytest.mark.parametrize("seeds", [3, 12, 20])
@pytest.mark.parametrize("variance", [0.1, 1.0, 1.5])
def test_the_interval_of_the_mean_covers_seeds_that_differ_by_factors(variance, seeds):
    """It covers 93 to 96 percent, where the t interval of the log covers 86 to 90 percent."""
    sizes = (variance, 0.5, 0.1)

    def skewed(z):
        return np.exp(z - sum(sizes) / 2)

    held = {
        name: coverage(lambda z, of=of: of(skewed(z)), sizes, 1, seeds, 1500, tasks=50)
        for name, of in (("mean", mean_interval), ("plain", plain_t_interval))
    }
    assert 0.92 < held["mean"] < 0.98
    if variance >= 1:
        assert held["mean"] - held["plain"] > 0.03


def test_the_variance_of_the_mean_is_not_below_that_of_either_margin():
    # Mean squares 9, 1/4, 1: (9 + 1/4 - 1) / 4 is below 9 / 4.
    _, lower, upper = mean_interval([[1.75, 1.25], [3.75, 5.25]], scale="raw")
    half = stats.t.ppf(0.975, 81 / (81 + 1 / 16 + 1)) * sqrt(9 / 4)
    assert_allclose([lower, upper], [3 - half, 3 + half])


def test_the_interval_of_one_seed_is_the_t_interval_over_tasks(losses):
    reference = stats.ttest_1samp(losses[0], 0).confidence_interval(0.95)
    assert_allclose(mean_interval(losses[:1], scale="raw")[1:], reference)


def test_the_interval_of_the_mean_does_not_depend_on_the_order_of_seeds_and_tasks(losses):
    rng = np.random.default_rng(2)
    shuffled = losses[rng.permutation(5)][:, rng.permutation(40)]
    assert_allclose(mean_interval(shuffled), mean_interval(losses), rtol=1e-12)


def test_many_tasks_are_no_substitute_for_seeds():
    # Two seeds at 1 and 3 on 500 tasks: the t interval of two numbers, one degree of freedom,
    # standard error 1.
    x = np.repeat([[1.0], [3.0]], 500, axis=1)
    half = stats.t.ppf(0.975, 1)
    assert_allclose(mean_interval(x, scale="raw"), (2, 2 - half, 2 + half))


def test_the_unit_of_the_losses_does_not_matter(losses):
    assert_allclose(mean_interval(1000 * losses), 1000 * np.array(mean_interval(losses)))


@pytest.mark.parametrize("diverged", [inf, nan])
def test_a_diverged_run_is_never_dropped_from_a_mean(losses, diverged):
    losses[3, 7] = diverged
    assert_array_equal(mean_interval(losses), (inf, nan, nan))


def test_constant_losses_have_an_interval_of_no_width():
    assert mean_interval(np.full((3, 4), 2.0)) == (2, 2, 2)
    assert mean_interval(np.zeros((3, 4))) == (0, 0, 0)


def test_one_single_loss_has_no_bounds():
    assert_array_equal(mean_interval([[2.0]]), (2, nan, nan))


@pytest.mark.parametrize("wrong", [np.ones(3), np.ones((0, 3)), np.ones((2, 2, 2))])
def test_losses_must_be_seeds_by_tasks(wrong):
    with pytest.raises(ValueError, match=r"\(seed, task\)"):
        mean_interval(wrong)


def test_negative_values_are_refused_on_the_log_scale():
    with pytest.raises(ValueError, match=r"log scale must lie in \[0, inf\]; got -1.0 to 2.0"):
        mean_interval([[2.0, -1.0]])


# ---- pooled statistics


def test_a_ratio_counts_scores_below_rounding_as_rounding():
    a, b = np.full((5, 10), 1e-11), np.full((5, 10), 1e-13)
    assert_allclose(ratio_interval(a, b), [10, 10, 10])
    assert ROUNDING == 1e-12


def one_large(place: tuple[Any, Any], times: float) -> Any:
    """Losses of 5 seeds and 10 tasks, all 1, but for a part that is larger."""
    x = np.ones((5, 10))
    x[place] *= times
    return x


EVERY = slice(None)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (np.ones((5, 10)), True),
        (np.zeros((5, 10)), True),
        (one_large((0, EVERY), 4.0), True),  # half of all: 40 of 80
        (one_large((0, EVERY), 4.1), False),
        (one_large((EVERY, 3), 9.0), True),  # 45 of 90
        (one_large((EVERY, 3), 9.1), False),
        (one_large((2, 3), 60.0), False),
        (np.ones((4, 10)), False),
        (np.ones((2, 10)), False),
        (np.ones((1, 10)), True),  # a baseline without seeds
        (one_large((0, 3), np.inf), False),
    ],
)
def test_a_mean_that_one_seed_or_one_task_makes_up_has_no_interval(
    losses: Any, expected: bool
) -> None:
    assert determined(losses) == expected


def test_median_and_95th_percentile_are_those_of_numpy(losses):
    assert median(losses) == pytest.approx(np.median(losses))
    assert p95(losses) == pytest.approx(np.quantile(losses, 0.95))
    assert median(losses[:1, :7]) == np.median(losses[:1, :7])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([8, 1, 7, 2, 6, 3, 5, 4], 4.5),  # the mean of 3, 4, 5, 6
        ([1, 2, 3, 4, 5, 100], 3.5),  # (2/2 + 3 + 4 + 5/2) / 3
        ([1, 2, 3, inf], 2.5),
        ([1, 2, inf, inf], inf),
    ],
)
def test_the_interquartile_mean_is_the_mean_of_the_middle_half(values, expected):
    assert iqm(values) == pytest.approx(expected)


def test_infinite_losses_sort_last_and_never_make_a_nan():
    assert median([inf, 1, 3, 2]) == 2.5
    assert median([inf, inf, 1, 2]) == inf
    assert median([inf, inf]) == inf
    # Rank 0.95 * 20 = 19 exactly: the infinite one, at 20, has no weight.
    assert p95([inf, *range(20)]) == 19
    assert p95([inf, inf, *range(19)]) == inf
    # Rank 55 exactly, though 0.55 * 100 is above it in float64.
    assert quantile(55)([*range(56), *[inf] * 45]) == 55


def test_nan_counts_as_infinite():
    assert median([nan, 1, 3, 2]) == median([inf, 1, 3, 2])
    assert median([nan, nan, 1]) == inf


@pytest.mark.parametrize("statistic", [median, iqm, p95])
def test_a_pooled_statistic_is_the_same_to_the_bit_in_any_order(losses, statistic):
    assert statistic(np.random.default_rng(0).permutation(losses.ravel())) == statistic(losses)


def bootstrap_by_definition(statistic, x, draws):
    """Compute the crossed interval on the log scale with plain loops."""
    by_seed = np.log([statistic(x[draw]) for draw in draws.seeds])
    by_task = np.log([statistic(x[:, draw]) for draw in draws.tasks])
    spreads = [
        np.diff(np.quantile(e, stats.norm.cdf([-1, 1]), method="nearest"))[0] / 2
        for e in (by_seed, by_task)
    ]
    parts = [spread**2 * n / (n - 1) for spread, n in zip(spreads, x.shape, strict=True)]
    degrees = sum(parts) ** 2 / sum(
        part**2 / (n - 1) for part, n in zip(parts, x.shape, strict=True)
    )
    half = stats.t.ppf(0.975, degrees) * sqrt(sum(parts))
    return statistic(x) * np.exp([0, -half, half])


@pytest.mark.parametrize("statistic", [median, iqm, p95])
def test_the_crossed_interval_is_that_of_plain_resampling(losses, statistic):
    losses[4, :2] = inf
    draws = resamples("study", 5, 40, 200)
    assert_allclose(
        crossed_interval(statistic, losses, draws),
        bootstrap_by_definition(statistic, losses, draws),
    )


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("shares", [SEEDS_DOMINATE, BALANCED, TASKS_DOMINATE])
@pytest.mark.parametrize("statistic", [median, iqm])
def test_the_crossed_interval_covers_what_it_states(statistic, shares, seeds):
    draws = resamples("coverage", seeds, 100, 200)
    covered = coverage(lambda z: crossed_interval(statistic, 10 + z, draws), shares, 10, seeds, 200)
    assert covered > 0.95 - 3 * standard_error(0.95, 200)


@pytest.mark.parametrize("seeds", [5, 10])
def test_the_crossed_interval_covers_heavy_tailed_losses(seeds):
    draws = resamples("coverage", seeds, 100, 200)
    covered = coverage(
        lambda z: crossed_interval(median, np.exp(z), draws), BALANCED, 1, seeds, 300
    )
    assert covered > 0.95 - 3 * standard_error(0.95, 300)


def test_the_same_key_gives_the_same_interval_and_another_key_another(losses):
    first, again, other = (
        crossed_interval(iqm, losses, resamples(key, 5, 40, 100)) for key in ("a", "a", "b")
    )
    assert first == again
    assert first.estimate == other.estimate
    assert first.lower != other.lower


def test_a_few_infinite_resamples_do_not_make_the_interval_infinite():
    losses = np.exp(crossed_normal(BALANCED, 10, 50, np.random.default_rng(3)))
    draws = resamples("study", 10, 50, 1000)
    finite = crossed_interval(median, losses, draws)
    losses[0] = inf
    one_diverged = crossed_interval(median, losses, draws)
    assert finite.estimate < one_diverged.estimate < one_diverged.upper < inf
    losses[1:4] = inf  # 4 of 10: more than 16% of the resamples draw five or more of them
    assert crossed_interval(median, losses, draws)[1:] == (0, inf)
    losses[4:6] = inf
    assert_array_equal(crossed_interval(median, losses, draws), (inf, nan, nan))


def test_the_interval_of_a_seedless_baseline_is_over_tasks_alone(losses):
    draws = resamples("study", 5, 40, 200)
    other_seeds = replace(draws, seeds=draws.seeds[::-1])
    one = crossed_interval(median, losses[:1], draws)
    assert one == crossed_interval(median, losses[:1], other_seeds)
    assert one.lower < one.estimate < one.upper


def test_resamples_of_another_design_are_refused(losses):
    with pytest.raises(
        ValueError, match=r"resamples are of \(4, 40\) \(seeds, tasks\), losses of \(5, 40\)"
    ):
        crossed_interval(median, losses, resamples("study", 4, 40, 10))


# ---- resamples


def test_resamples_draw_every_seed_and_task_evenly():
    draws = resamples("study", 5, 100, 2000)
    assert draws.seeds.shape == (2000, 5)
    assert draws.tasks.shape == (2000, 100)
    counts = np.bincount(draws.seeds.ravel())  # Binomial(10000, 1/5): standard error 40
    assert len(counts) == 5
    assert np.abs(counts - 2000).max() < 4 * 40
    distinct = np.mean([len(set(draw)) for draw in draws.tasks])
    # 3.1 is the standard deviation of their number.
    assert distinct == pytest.approx(100 * (1 - 0.99**100), abs=4 * 3.1 / sqrt(2000))


def test_a_resample_does_not_notice_how_many_others_or_tasks_there_are():
    assert_array_equal(
        resamples("study", 5, 10, 30).seeds[:20], resamples("study", 5, 70, 20).seeds
    )
    assert_array_equal(
        resamples("study", 5, 10, 30).tasks[:20], resamples("study", 9, 10, 20).tasks
    )


def test_statistics_of_resamples_are_those_of_the_drawn_losses():
    """One block of sorted losses, several, whole ones and a part, with ties and infinite losses."""
    statistics = [quantile(0), median, iqm, p95, *map(cvar, range(1, 100, 7)), quantile(100)]
    for shape, infinite in product([(1, 2), (4, 96), (3, 301), (2, 64)], [0, 1, 40]):
        x = np.exp(np.random.default_rng(3).normal(size=shape)).round(2)
        x.flat[:infinite] = inf
        draws = resamples("drawn", *shape, 30)
        for axis, drawn in enumerate((draws.seeds, draws.tasks)):
            expected = [[one(np.take(x, draw, axis)) for draw in drawn] for one in statistics]
            assert_allclose(
                resampled(statistics, x, draws.counts[axis], axis), expected, rtol=1e-13
            )


def test_seeds_and_tasks_are_resampled_independently():
    draws = resamples("study", 10, 10, 1000)
    assert np.mean(draws.seeds == draws.tasks) == pytest.approx(
        0.1, abs=4 * standard_error(0.1, 10_000)
    )


# ---- comparisons


def test_ties_count_one_half_in_the_probability_of_improvement():
    # (1 + 1/2 + 0 + 1) / 4
    assert probability_of_improvement([[1, 2], [3, 3]], [[2, 2], [1, 5]]).estimate == 0.625


def test_the_smaller_loss_is_the_improvement(losses):
    better = losses - 0.1 * np.arange(40)
    one, other = (
        probability_of_improvement(better, losses),
        probability_of_improvement(losses, better),
    )
    assert one.estimate == 39.5 / 40
    assert_allclose([1 - other.estimate, 1 - other.upper, 1 - other.lower], one)


def test_a_diverged_run_loses_and_two_diverged_ones_tie():
    # The four pairs count 0, 1/2, 1/2 and 1.
    assert probability_of_improvement([[inf, inf, nan, 1]], [[1, inf, inf, nan]]).estimate == 0.5
    assert probability_of_improvement([[inf, inf]], [[1, inf]]).estimate == 0.25


def test_a_seedless_baseline_is_matched_with_each_seed(losses):
    baseline = np.full((1, 40), 1.0)
    repeated = np.ones((5, 40))
    assert probability_of_improvement(losses, baseline) == probability_of_improvement(
        losses, repeated
    )
    share = losses / losses.max()
    assert difference_interval(share, baseline) == difference_interval(share, repeated)


@pytest.mark.parametrize("compare", [probability_of_improvement, difference_interval])
def test_losses_that_do_not_match_are_refused(losses, compare):
    with pytest.raises(ValueError, match=r"got a of \(5, 40\), b of \(5, 1\)"):
        compare(losses, losses[:, :1])


def test_where_every_pair_agrees_the_bound_is_that_of_as_many_trials_as_seeds(losses):
    exact = stats.binomtest(5, 5).proportion_ci(0.95, method="exact")
    assert_allclose(probability_of_improvement(losses, losses + 1), (1, exact.low, 1))
    assert_allclose(
        probability_of_improvement(losses + 1, losses), (0, 0, 1 - exact.low), atol=1e-15
    )


def test_the_interval_of_the_probability_of_improvement_covers_what_it_states():
    baseline = np.full((1, 100), stats.norm.ppf(0.8))
    covered = coverage(lambda z: probability_of_improvement(z, baseline), BALANCED, 0.8, 10, 1000)
    assert covered > 0.95 - 3.5 * standard_error(0.95, 1000)


def test_a_difference_is_a_minus_b_paired_on_seed_and_task(losses):
    noise = 0.01 * np.random.default_rng(5).standard_normal(losses.shape)
    share = losses / losses.max() / 2
    estimate, lower, upper = difference_interval(share + 0.2 + noise, share)
    assert estimate == pytest.approx(0.2 + noise.mean())
    assert 0.19 < lower < estimate < upper < 0.21  # what a and b share has cancelled


def two_scores(rng, seeds=12, tasks=50, variances=(1.5, 0.05)):
    """Scores of two cells whose seeds differ much and little, on the same tasks; means 0.001."""
    shared = 0.3 * rng.standard_normal((1, tasks)) - 0.3**2 / 2
    return [
        0.001 * np.exp(sqrt(v) * rng.standard_normal((seeds, 1)) - v / 2 + shared)
        for v in variances
    ]


def test_the_bounds_of_a_difference_move_as_those_of_both_scores():
    rng = np.random.default_rng(6)
    a, b = np.minimum(np.exp(-2 + rng.standard_normal((1, 8))), 1), rng.uniform(0, 0.3, (1, 8))
    # With one seed, correlations are those over tasks.
    r_a, r_b = (np.corrcoef(side, a - b)[0, 1] for side in (a, b))
    assert r_a > 0 > r_b
    plain = stats.ttest_1samp((a - b)[0], 0).confidence_interval(0.95)
    moves_a, moves_b = (
        np.subtract(mean_interval(x, scale="logit")[1:], mean_interval(x, scale="raw")[1:])
        for x in (a, b)
    )
    low, high = r_a**2 * moves_a - r_b**2 * moves_b[::-1]
    estimate, lower, upper = difference_interval(a, b)
    assert_allclose([lower, upper], [plain.low + min(low, 0), plain.high + max(high, 0)])
    assert high > 0
    assert_allclose(difference_interval(b, a), (-estimate, -upper, -lower))


def test_the_upper_bound_of_a_difference_from_a_constant_is_that_of_the_score(losses):
    share = losses / losses.max() / 4
    above = mean_interval(share, scale="logit").upper
    assert difference_interval(share, np.full((1, 40), 0.1)).upper == pytest.approx(above - 0.1)


def test_what_two_scores_share_cancels_in_their_difference():
    a, _ = two_scores(np.random.default_rng(7))
    noise = 1e-7 * np.random.default_rng(8).standard_normal(a.shape)
    estimate, lower, upper = difference_interval(a + noise, a)
    plain = mean_interval(noise, scale="raw")
    assert lower < estimate < upper
    assert upper - lower < 2 * (plain.upper - plain.lower)  # the scores' own are 10 000 as wide
    assert difference_interval(a, a) == (0, 0, 0)


def test_a_difference_of_scores_stays_within_its_bounds():
    a, b = np.array([[1, 1, 0.9], [0.1, 1, 1.0]]), np.array([[0, 0.1, 0.0], [0, 0, 0.8]])
    _, lower, upper = difference_interval(a, b)
    assert -1 <= lower < upper == 1


def test_the_interval_of_a_difference_covers_scores_whose_seeds_differ_unequally():
    """It covers 93 percent or more, the t interval of the paired differences 84 percent."""
    rng, held = np.random.default_rng(9), []
    for _ in range(500):
        a, b = two_scores(rng)
        found = difference_interval(a, b), mean_interval(a - b, scale="raw")
        held.append([lower <= 0 <= upper for _, lower, upper in found])
    joint, plain = np.mean(held, 0)
    assert 0.9 < joint < 0.98
    assert joint - plain > 0.05


def test_a_ratio_is_the_geometric_mean_of_a_over_b_paired_on_seed_and_task(losses):
    factor = np.exp(0.01 * np.random.default_rng(5).standard_normal(losses.shape))
    estimate, lower, upper = ratio_interval(3 * factor * losses, losses)
    assert estimate == pytest.approx(3 * np.exp(np.log(factor).mean()))
    assert 2.97 < lower < estimate < upper < 3.03  # what a and b share has cancelled
    turned = ratio_interval(losses, 3 * factor * losses)
    assert_allclose(turned, (1 / estimate, 1 / upper, 1 / lower))


def test_scores_of_zero_have_a_ratio_at_rounding_level():
    assert ratio_interval(np.zeros((2, 3)), np.ones((2, 3))).estimate == pytest.approx(ROUNDING)


@pytest.mark.parametrize("sizes", [(3, 200), (12, 200)])
def test_the_interval_of_a_ratio_covers_what_it_states(sizes):
    seeds, tasks = sizes
    rng = np.random.default_rng(2)
    held = []
    for _ in range(800):
        shared = rng.standard_normal((1, tasks))
        a, b = (
            np.exp(shared + 0.3 * crossed_normal(BALANCED, seeds, tasks, rng)) for _ in range(2)
        )
        found = ratio_interval(2 * a, b)
        held.append(found.lower <= 2 <= found.upper)
    assert np.mean(held) > 0.95 - 3.5 * standard_error(0.95, 800)


def test_a_design_finds_the_detectable_difference_with_the_stated_chance():
    """A difference as large as what is detectable on average leaves out zero four times in five."""
    rng = np.random.default_rng(3)
    seeds, tasks = 10, 100

    def pair():
        return (0.4 + 0.05 * crossed_normal(BALANCED, seeds, tasks, rng) for _ in range(2))

    size = np.mean([detectable(*pair()) for _ in range(300)])
    found = []
    for _ in range(600):
        a, b = pair()
        found.append(difference_interval(a + size, b).lower > 0)
    assert abs(np.mean(found) - 0.8) < 3.5 * standard_error(0.8, 600) + 0.02


def test_the_detectable_difference_is_that_of_the_textbook():
    a = np.array([[1.0, 2.0, 4.0, 3.0, 5.0]])  # one seed: five differences from 0, over tasks
    error, freedom = a.std(ddof=1) / sqrt(5), 4
    expected = (stats.t.ppf(0.975, freedom) + stats.t.ppf(0.8, freedom)) * error
    assert detectable(a, np.zeros((1, 5))) == pytest.approx(expected)


def test_ranks_follow_the_means_and_ties_share_theirs():
    first, second, third = (np.full((3, 4), value) for value in (0.1, 0.1, 0.7))
    draws = resamples("ranks", 3, 4, 50)
    assert_array_equal(ranks([third, first, second], draws), [[3, 1.5, 1.5]] * 50)


def test_ranks_are_those_of_plain_resampling(losses):
    rivals = [losses, losses[::-1] * 1.01, losses[:1] + 0.02]
    draws = resamples("ranks", *losses.shape, 40)
    expected = []
    for seeds, tasks in zip(draws.seeds, draws.tasks, strict=True):
        drawn = [r[np.ix_(seeds if len(r) > 1 else [0], tasks)].mean() for r in rivals]
        expected.append(stats.rankdata(drawn))
    assert_array_equal(ranks(rivals, draws), expected)
