"""The posterior mean, compared with Monte Carlo, other predictors and its limits."""

from math import sqrt

import numpy as np
import pytest
import small
import torch
from scipy.stats import kstest, norm, t

from metabench.learning import baselines
from metabench.learning.baselines import bayes
from metabench.learning.held_out import held_out
from metabench.learning.randomness import students
from metabench.learning.tasks import (
    PlaneWaveDistribution,
    Points,
    SineDistribution,
    SineOrLineDistribution,
)

NOISY = SineDistribution(noise=0.5)
HEAVY = SineDistribution(noise=0.5, noise_kind="heavy-tailed")
VARIED = SineDistribution(noise=0.5, frequency=(0.8, 1.2))


def met(tasks, shots=5, count=8, support=(0.0, 5.0)):
    """Some held-out tasks."""
    return held_out(small.protocol(shots, support), tasks, "test-bank", count)


def student(deviation):
    """Student's t distribution with 3 degrees of freedom and a standard deviation."""
    return t(3, 0, deviation / sqrt(3))


def by_chance(tasks, support, x, draws=200_000):
    """Mean and variance of a label, from waves drawn at random and weighed by their likelihood."""
    waves = tasks.draw(torch.from_numpy(np.random.default_rng(1).random((draws, tasks.width))))
    off = (waves(support.x.expand(draws, *support.x.shape)) - support.y)[..., 0]
    logarithms = norm(0, tasks.noise) if tasks.noise_kind == "normal" else student(tasks.noise)
    weight = torch.from_numpy(logarithms.logpdf(off).sum(-1)).softmax(0)
    y = waves(x.expand(draws, *x.shape))[..., 0]
    mean = (weight[:, None] * y).sum(0)
    return mean, (weight[:, None] * (y - mean).square()).sum(0) + tasks.noise**2


@pytest.mark.parametrize(
    "tasks",
    [
        NOISY,
        SineDistribution(noise=1.0, frequency=(0.8, 1.2)),
        SineDistribution(noise=0.8, sign="minus", phase=(0.5, 2.0), amplitude=(2.0, 3.0)),
        HEAVY,
    ],
)
@pytest.mark.parametrize("shots", [1, 4])
def test_it_is_the_mean_of_waves_drawn_at_random_and_weighed_by_their_likelihood(tasks, shots):
    tasks_met = met(tasks, shots, count=3)
    found = bayes.posterior(tasks, tasks_met.support, tasks_met.query.x)
    for n in range(3):
        mean, variance = by_chance(tasks, tasks_met.support.at(n), tasks_met.query.x)
        torch.testing.assert_close(found.mean[n, :, 0], mean, rtol=0, atol=0.05)
        torch.testing.assert_close(found.variance[n, :, 0], variance, rtol=0.05, atol=0.02)


def test_no_other_predictor_has_a_lower_loss_on_noisy_waves():
    protocol = small.settings.BaselineProtocol(
        shots=5, support=(0.0, 5.0), updates=1, gaussian_process_length_scale=1.5, noise=1.0
    )
    found = baselines.evaluate(small.baseline_settings({"noisy": protocol}, 300))
    least = found["test/noisy/bayes"][0]
    others = {name: value for name, value in found.items() if name.startswith("test/noisy/")}
    assert len(others) > 5
    for name, losses in others.items():
        if name != "test/noisy/bayes":
            ahead = losses[0] - least
            assert ahead.mean() > 2 * ahead.std() / len(ahead) ** 0.5, name


def test_with_little_noise_it_is_least_squares_and_with_much_it_says_nothing():
    clear = SineDistribution(noise=0.02)
    tasks = met(clear, shots=10, support=(-5.0, 5.0))
    found = bayes.posterior(clear, tasks.support, tasks.query.x).mean
    fitted = baselines.least_squares(clear, tasks.support, tasks.query.x)
    torch.testing.assert_close(found, fitted, rtol=0, atol=0.02)
    loud = SineDistribution(noise=1000.0)
    assert bayes.posterior(loud, tasks.support, tasks.query.x).mean.abs().max() < 0.01


def test_twice_as_many_nodes_give_the_same(monkeypatch):
    narrow = SineDistribution(noise=0.3, noise_kind="heavy-tailed")
    for tasks, shots, tolerance in ((NOISY, 5, 1e-3), (VARIED, 5, 1e-3), (narrow, 50, 1e-4)):
        some = met(tasks, shots, 2, (-5.0, 5.0)) if shots > 5 else met(tasks)
        found = bayes.posterior(tasks, some.support, some.query.x).mean
        monkeypatch.setattr(bayes, "SPACING", bayes.SPACING / 2)
        monkeypatch.setattr(bayes, "AMPLITUDES", 2 * bayes.AMPLITUDES)
        torch.testing.assert_close(
            bayes.posterior(tasks, some.support, some.query.x).mean, found, rtol=0, atol=tolerance
        )
        monkeypatch.undo()


def test_a_prediction_depends_on_its_own_task_alone_and_on_every_point_of_it():
    some = met(NOISY)
    whole = bayes.posterior(NOISY, some.support, some.query.x).mean
    for n in range(len(whole)):
        alone = bayes.posterior(NOISY, some.support.at(slice(n, n + 1)), some.query.x).mean
        torch.testing.assert_close(alone[0], whole[n], rtol=0, atol=1e-12)
    for point in range(5):
        y = some.support.y.clone()
        y[:, point] += 1
        moved = bayes.posterior(NOISY, Points(some.support.x, y), some.query.x).mean
        assert ((moved - whole).abs().amax((1, 2)) > 1e-3).all()


def test_query_points_of_each_task_are_predicted_as_the_same_points_of_all_are():
    some = met(NOISY)
    each = some.query.x.expand(len(some.support.x), *some.query.x.shape)
    torch.testing.assert_close(
        bayes.posterior(NOISY, some.support, each).mean,
        bayes.posterior(NOISY, some.support, some.query.x).mean,
        rtol=0,
        atol=0,
    )


def test_there_is_one_for_noisy_waves_alone_whose_posterior_is_not_too_narrow():
    assert "bayes" in baselines.names(NOISY) and "bayes" in baselines.names(VARIED)
    noisy = small.protocol(5, (0.0, 5.0), noise=0.3)
    assert "bayes" in baselines.names(SineDistribution(), noisy), "noise of the protocol counts"
    for unknown in ({"shots": 51}, {"outliers": 1}):
        assert "bayes" not in baselines.names(NOISY, noisy.model_copy(update=unknown))
    for tasks in (
        SineDistribution(),
        SineOrLineDistribution(noise=0.5),
        PlaneWaveDistribution(noise=0.5),
        SineDistribution(noise=0.001, frequency=(0.5, 2.0)),
        SineDistribution(noise=0.5, noise_kind="growing"),
        SineDistribution(noise=0.05, noise_kind="heavy-tailed"),
        SineDistribution(noise=0.5, noise_kind="heavy-tailed", frequency=(0.5, 2.0)),
    ):
        assert "bayes" not in baselines.names(tasks)


def test_heavy_tails_are_those_that_the_labels_have():
    unit = np.random.default_rng(2).random(20_000)
    assert kstest(students(unit), student(1.0).cdf).pvalue > 0.01
    assert bayes.DEGREES == 3


def test_of_heavy_tailed_noise_it_trusts_a_label_far_off_less_than_normal_noise_does():
    some = met(NOISY, shots=10, support=(-5.0, 5.0))
    y = some.support.y.clone()
    y[:, 0] += 10
    wrong = Points(some.support.x, y)
    moved = {
        tasks.noise_kind: (
            bayes.posterior(tasks, wrong, some.query.x).mean
            - bayes.posterior(tasks, some.support, some.query.x).mean
        ).square()
        for tasks in (NOISY, HEAVY)
    }
    assert moved["heavy-tailed"].mean() < moved["normal"].mean() / 5
