from math import sqrt

import numpy as np
import pytest
import small
import torch

from metabench.learning import settings
from metabench.learning.baselines import evaluate, gaussian_process, least_squares, names, zero
from metabench.learning.tasks import Bank, Points, Sine, SineDistribution

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
    waves = Bank("flux", "test-bank", FLUX, 20).drawn
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
    bank = Bank("flux", "test-bank", FLUX, 3)
    support = bank.support(5, (0.0, 5.0))
    x = support.x
    found = gaussian_process(support, FLUX.grid, variance=4.25, length_scale=1.5, jitter=1e-4)
    for t in range(3):
        a, y, b = x[t, :, 0].numpy(), support.y[t, :, 0].numpy(), FLUX.grid[:, 0].numpy()

        def kernel(p, q):
            return 4.25 * np.exp(-((p[:, None] - q[None, :]) ** 2) / (2 * 1.5**2))

        expected = kernel(b, a) @ np.linalg.inv(kernel(a, a) + 1e-4 * np.eye(5)) @ y
        assert found[t, :, 0].numpy() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_baseline_predicts_for_each_task_from_its_own_support():
    bank = Bank("flux", "test-bank", FLUX, 3)
    support = bank.support(4, (-5.0, 5.0))
    together = least_squares(FLUX, support, FLUX.grid)
    for t in range(3):
        alone = least_squares(FLUX, support.at(slice(t, t + 1)), FLUX.grid)
        torch.testing.assert_close(together[t], alone[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(together[t], bank.drawn(FLUX.grid)[t], rtol=1e-6, atol=1e-6)
