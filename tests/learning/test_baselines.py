from math import sqrt

import numpy as np
import pytest
import small
import torch

from metabench.learning import settings
from metabench.learning.baselines import (
    evaluate,
    least_squares,
    linear_model,
    names,
    processes,
    training_tasks,
    zero,
)
from metabench.learning.held_out import held_out
from metabench.learning.scores import scores
from metabench.learning.tasks import Bank, Points, Sine, SineDistribution, SineOrLineDistribution

FLUX = SineDistribution()


def losses(tasks, **protocols):
    return evaluate(small.baseline_settings(protocols, tasks))


def protocol(shots, support, length_scale=2.0):
    return settings.BaselineProtocol(
        shots=shots, support=support, updates=1, gaussian_process_length_scale=length_scale
    )


def test_every_baseline_is_evaluated_under_every_protocol_and_region():
    found = losses(7, standard=protocol(10, [-5.0, 5.0]), robustness=protocol(5, [0.0, 5.0]))
    expected = {
        f"test/{protocol}/{name}" for protocol in ("standard", "robustness") for name in names(FLUX)
    }
    assert {name for name in found if name.startswith("test/")} == expected
    assert found["test/standard/zero"].shape == (1, 7)
    assert found["test/robustness/zero"].shape == (3, 7)


def test_the_baselines_are_reported_on_the_test_bank():
    waves = Bank(0, "test-bank", FLUX, 20).drawn
    found = losses(20, standard=protocol(10, [-5.0, 5.0]))["test/standard/zero"][0]
    torch.testing.assert_close(found, waves(FLUX.grid).square().mean((-2, -1)))


def test_the_record_of_the_baselines_holds_the_showcase_wave_and_its_support_points():
    found = losses(3, robustness=protocol(5, [0.0, 5.0]))
    torch.testing.assert_close(found["showcase/truth"], 4 * torch.sin(found["showcase/x"] + 1))
    x, y = found["showcase/robustness/support"].T
    assert len(x) == 5
    assert ((x >= 0) & (x <= 5)).all()
    torch.testing.assert_close(y, 4 * torch.sin(x + 1))


def test_the_zero_predictor_scores_half_the_mean_squared_amplitude():
    found = losses(1000, standard=protocol(10, [-5.0, 5.0]))["test/standard/zero"][0]
    # E[A^2] / 2 = (5^3 - 0.1^3) / (3 * 4.9) / 2 = 4.2517
    assert abs(found.mean() - 4.2517) < 3 * found.std() / sqrt(len(found))


def test_the_zero_predictor_scores_7_769_on_the_showcase_wave():
    wave = Sine(torch.tensor([4.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64))
    support = Points(
        torch.zeros(1, 5, 1, dtype=torch.float64), torch.zeros(1, 5, 1, dtype=torch.float64)
    )
    prediction = zero(support, FLUX.grid)
    assert prediction.shape == (1, 50, 1)
    # The mean of (4 sin(x + 1))^2 over the 50 grid points.
    assert round((prediction - wave(FLUX.grid)).square().mean().item(), 3) == 7.769


@pytest.mark.parametrize("shots", [2, 5, 10])
def test_least_squares_fits_every_wave_from_two_or_more_points(shots):
    found = losses(1000, robustness=protocol(shots, [0.0, 5.0]))["test/robustness/least-squares"]
    # Rounding, 1e-32 of a square, times the squared condition of the points: two of them may nearly
    # coincide.
    assert found.median() < 1e-28
    assert found.max() < (1e-15 if shots == 2 else 1e-20)


@pytest.mark.parametrize(
    ("shots", "support", "length_scale", "expected"),
    [(5, [0.0, 5.0], 1.5, 1.93), (5, [-5.0, 5.0], 2.0, 1.11), (10, [-5.0, 5.0], 2.0, 0.115)],
)
def test_the_gaussian_process_scores_what_another_implementation_did(
    shots, support, length_scale, expected
):
    """Variance 4.25, jitter 1e-4.

    The expected means are of 4000 tasks too, drawn and computed by a program of its own: two
    independent samples, so that their difference has the square root of two times the standard
    error of one.
    """
    found = losses(4000, one=protocol(shots, support, length_scale))["test/one/gaussian-process"][0]
    assert abs(found.mean() - expected) < 3 * sqrt(2) * found.std() / sqrt(len(found))


def test_the_gaussian_process_is_the_posterior_mean_of_the_textbook():
    bank = Bank(0, "test-bank", FLUX, 3)
    support = bank.support(5, (0.0, 5.0))
    x = support.x
    kernel = processes.Kernel(4.25, 1.5, noise=1e-4)
    found = processes.posterior(kernel, support, FLUX.grid).mean
    for t in range(3):
        a, y, b = x[t, :, 0].numpy(), support.y[t, :, 0].numpy(), FLUX.grid[:, 0].numpy()

        def covariance(p, q):
            return 4.25 * np.exp(-((p[:, None] - q[None, :]) ** 2) / (2 * 1.5**2))

        expected = covariance(b, a) @ np.linalg.inv(covariance(a, a) + 1e-4 * np.eye(5)) @ y
        assert found[t, :, 0].numpy() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_baseline_predicts_for_each_task_from_its_own_support():
    bank = Bank(0, "test-bank", FLUX, 3)
    support = bank.support(4, (-5.0, 5.0))
    together = least_squares(FLUX, support, FLUX.grid)
    for t in range(3):
        alone = least_squares(FLUX, support.at(slice(t, t + 1)), FLUX.grid)
        torch.testing.assert_close(together[t], alone[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(together[t], bank.drawn(FLUX.grid)[t], rtol=1e-6, atol=1e-6)


# What learns from training tasks.


def test_waves_of_one_frequency_have_two_components_that_solve_every_task():
    components = linear_model.learned(training_tasks(FLUX))
    assert len(components.variances) == 2
    found = losses(500, robustness=protocol(5, [0.0, 5.0]))["test/robustness/linear"][0]
    assert found.max() < 1e-6 and found.median() < 1e-8


def test_the_components_are_those_of_another_library():
    """Mean and span of the grid labels, by numpy's singular values instead of eigenvectors."""
    y = training_tasks(FLUX).query().y[:, 0, 0, :, 0].numpy()
    _, values, vectors = np.linalg.svd(y - y.mean(0), full_matrices=False)
    found = linear_model.learned(training_tasks(FLUX))
    assert found.values[0] == pytest.approx(y.mean(0), abs=1e-6)
    assert found.variances.numpy() == pytest.approx(values[:2] ** 2 / len(y), rel=1e-6)
    assert abs(found.values[1:] @ vectors[:2].T) == pytest.approx(np.eye(2), abs=1e-6)


def test_the_linear_model_is_the_posterior_mean_of_its_prior():
    """Bayesian linear regression, as a Gaussian process with the kernel of the components."""
    tasks = SineDistribution(frequency=(0.8, 1.2), noise=0.3)
    components = linear_model.learned(training_tasks(tasks))
    support = Bank(0, "test-bank", tasks, 2).support(6, (-5.0, 5.0))
    found = linear_model.posterior(components, 4, 0.2, support, tasks.grid).mean
    variances = components.variances[:4].numpy()
    mean_there, phi_there = (t.numpy() for t in components.at(tasks.grid))
    for t in range(2):
        mean, phi = (part[t].numpy() for part in components.at(support.x))
        covariance = phi[:, :4] * variances @ phi[:, :4].T + 0.2 * np.eye(6)
        weights = np.linalg.solve(covariance, support.y[t].numpy() - mean)
        expected = mean_there + phi_there[:, :4] * variances @ phi[:, :4].T @ weights
        assert found[t].numpy() == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_rank_and_noise_of_the_linear_model_are_the_best_of_the_validation_bank():
    tasks = SineDistribution(frequency=(0.5, 2.0), noise=0.3)
    components = linear_model.learned(training_tasks(tasks))
    known = held_out(small.protocol(5, (-5.0, 5.0)), tasks, "validation-bank", 50)
    given = known.query.y.square().mean((-2, -1)).numpy()

    def score(predicted):
        return scores((predicted - known.query.y).square().mean((-2, -1)).numpy(), given).mean()

    best = score(linear_model.chosen(components, known)(known.support, known.query.x).mean)
    for rank in (1, 3, 16):
        for noise in linear_model.NOISES:
            size = noise * float(components.variances[0])
            other = linear_model.posterior(
                components, rank, size, known.support, known.query.x
            ).mean
            assert best <= score(other)


def test_a_fitted_kernel_is_likelier_than_its_neighbours_and_than_the_given_one():
    x, y = training_tasks(FLUX).support(processes.SHOTS)
    points = Points(x[: processes.TASKS, 0, 0], y[: processes.TASKS, 0, 0])
    best = processes.fitted(training_tasks(FLUX), None)
    at_best = processes.log_likelihood(best, points)
    for other in (
        processes.Kernel(4.25, 2.0, 1e-4),
        best._replace(length_scale=1.1 * best.length_scale),
        best._replace(length_scale=0.9 * best.length_scale),
        best._replace(variance=1.3 * best.variance, noise=1.3 * best.noise),
        best._replace(variance=0.7 * best.variance, noise=0.7 * best.noise),
        best._replace(noise=2 * best.noise),
    ):
        assert processes.log_likelihood(other, points) < at_best


def test_the_likelihood_is_that_of_the_multivariate_normal_distribution():
    from scipy.stats import multivariate_normal

    kernel = processes.Kernel(2.0, 1.2, 0.1, period=3.0)
    points = Bank(0, "test-bank", FLUX, 3).support(5, (-5.0, 5.0))
    each = [
        multivariate_normal(cov=covariance.numpy()).logpdf(y[:, 0].numpy())
        for covariance, y in zip(kernel.covariance(points.x), points.y, strict=True)
    ]
    assert processes.log_likelihood(kernel, points) == pytest.approx(np.mean(each))


def test_a_process_that_is_told_of_the_noise_is_the_posterior_with_its_variance():
    noisy = protocol(10, [-5.0, 5.0]).model_copy(update={"noise": 0.5})
    assert "gaussian-process-noise" in names(FLUX, noisy)
    assert "gaussian-process-noise" not in names(FLUX, protocol(10, [-5.0, 5.0]))
    kernel = processes.fitted(training_tasks(FLUX), None)
    told = kernel.with_noise(0.5)
    assert told.noise == 0.25 and told[:2] == kernel[:2]
    assert 0 < kernel.with_noise(0.0).noise < 1e-4, "covariances stay positive definite"
    found = losses(100, noisy=noisy)
    bank = held_out(noisy, FLUX, "test-bank", 100)
    labels = processes.posterior(told, bank.support, bank.query.x)
    expected = (labels.mean - bank.query.y).square().mean((-2, -1))
    torch.testing.assert_close(found["test/noisy/gaussian-process-noise"][0], expected)
    means = {name: found[f"test/noisy/{name}"][0].mean() for name in names(FLUX, noisy)}
    assert means["bayes"] < means["gaussian-process-noise"] < means["gaussian-process-fitted"]


def test_a_periodic_kernel_repeats_itself():
    kernel = processes.Kernel(2.0, 1.2, 0.1, period=3.0)
    a, b = torch.rand(2, 1, 4, 1, dtype=torch.float64)
    torch.testing.assert_close(kernel(a, b), kernel(a + 6, b))


def test_baselines_learn_from_training_tasks_and_not_from_those_that_they_meet():
    """Under a protocol of lines a model that learned from waves keeps failing."""
    lines = protocol(5, [-5.0, 5.0]).model_copy(
        update={"tasks": {"family": "sine-or-line", "lines": 1.0}}
    )
    found = losses(100, lines=lines)
    zero_loss = found["test/lines/zero"][0].numpy()
    assert scores(found["test/lines/linear"][0].numpy(), zero_loss).mean() > 0.2
    assert "test/lines/gaussian-process-periodic" in found, "the waves of training have a period"
    assert "gaussian-process-periodic" not in names(SineOrLineDistribution())
