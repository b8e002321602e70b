"""Predictive distributions of labels: the measures, what they are measured on, and baselines'."""

from dataclasses import replace

import numpy as np
import pytest
import small
import torch
from scipy import stats

from metabench.learning import baselines
from metabench.learning.algorithm import Adaptation, descending
from metabench.learning.algorithms import fomaml
from metabench.learning.baselines import bayes, linear_model, processes, training_tasks
from metabench.learning.evaluation import CHUNK, OWN, Adapter, evaluate, predictive_measures
from metabench.learning.held_out import held_out
from metabench.learning.network import Network
from metabench.learning.predictive import LEVELS, MEASURES, Predictive, measures
from metabench.learning.tasks import Bank, SineDistribution

NOISY = SineDistribution(noise=0.3)
EVERYWHERE = {"all": torch.arange(200)}


def drawn(mean, deviation, factor=1.0):
    """Labels of 500 tasks from known distributions, and predictions with a factor of deviation."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn((500, 200, 1), generator=generator, dtype=torch.float64)
    means = torch.full_like(noise, mean)
    predicted = Predictive(means, torch.full_like(noise, (factor * deviation) ** 2))
    return predicted, means + deviation * noise


def of_labels(factor=1.0):
    """The mean of each measure over the tasks, by name."""
    predicted, y = drawn(1.5, 0.4, factor)
    found = measures(predicted, y).mean(-1).mean(-1)
    return dict(zip(MEASURES, found.tolist(), strict=True))


def test_the_measures_are_those_of_another_library():
    predicted, y = drawn(1.5, 0.4, factor=1.3)
    found = dict(zip(MEASURES, measures(predicted, y).mean(-1), strict=True))
    known = stats.norm(predicted.mean.numpy(), predicted.variance.sqrt().numpy())
    assert found["nll"].numpy() == pytest.approx(-known.logpdf(y.numpy()).mean((1, 2)), rel=1e-12)
    assert found["deviation"].numpy() == pytest.approx(0.4 * 1.3)
    for level in LEVELS:
        low, high = known.interval(level / 100)
        inside = ((y.numpy() >= low) & (y.numpy() <= high)).mean((1, 2))
        assert found[f"coverage {level}"].numpy() == pytest.approx(inside, abs=1e-12)


def test_the_true_distribution_covers_what_it_says_and_has_the_lowest_likelihood_loss():
    true, narrow, wide = (of_labels(factor) for factor in (1.0, 0.7, 1.4))
    for level in LEVELS:
        name = f"coverage {level}"
        assert abs(true[name] - level / 100) < 0.005
        assert narrow[name] < true[name] < wide[name]
    assert true["nll"] < min(narrow["nll"], wide["nll"])


def test_each_region_has_the_measures_of_its_own_points():
    predicted, y = drawn(0.0, 1.0)
    halves = {"all": torch.arange(200), "seen": torch.arange(50), "unseen": torch.arange(50, 200)}
    tasks = held_out(small.protocol(5, (0.0, 5.0)), NOISY, "test-bank", len(y))
    whole, seen, unseen = tasks._replace(regions=halves).by_region(measures(predicted, y))
    torch.testing.assert_close(whole, (50 * seen + 150 * unseen) / 200)


# What they are measured on.


def test_labels_are_observed_with_noise_of_their_own():
    protocol = small.protocol(50, (-5.0, 5.0))
    tasks = held_out(protocol, NOISY, "test-bank", 400)
    noise = (tasks.observed - tasks.query.y)[..., 0]
    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)
    assert abs(float(noise.mean())) < 0.01
    of_support = tasks.support.y - Bank(0, "test-bank", NOISY, 400).drawn(tasks.support.x)
    assert abs(np.corrcoef(noise.flatten(), of_support[..., 0].flatten())[0, 1]) < 0.03
    fewer = held_out(protocol, NOISY, "test-bank", 20)
    assert torch.equal(fewer.observed, tasks.observed[:20])


def test_without_noise_labels_are_the_function():
    tasks = held_out(small.protocol(5, (-5.0, 5.0)), SineDistribution(), "test-bank", 4)
    assert torch.equal(tasks.observed, tasks.query.y)


def with_variance(network, theta, question, h):
    """Predict by plain descent, with a variance that grows along x."""
    mean = descending(network, theta, question, h)[-1]
    return Predictive(mean, (0.1 + question.x.abs()).expand_as(mean))


ADAPTATION = Adaptation(descending, distribution=with_variance)
NETWORK = Network((1, 8, 1))


def test_every_run_and_task_is_measured_on_its_noisy_labels():
    tasks = held_out(small.protocol(5, (0.0, 5.0)), NOISY, "test-bank", CHUNK + 3)
    adapter = Adapter(ADAPTATION, NETWORK, small.Plain())
    theta = torch.stack([NETWORK.initialize(seed) for seed in range(2)])
    found = predictive_measures(adapter, theta, tasks, 3)
    assert found.shape == (3, len(MEASURES), 2, CHUNK + 3)
    for run in range(2):
        for task in (0, CHUNK):
            batches = tasks.support.at(task).repeated(3)
            question = (batches, tasks.query.x, OWN)
            one = adapter.distribution(theta[run], *question)
            at_points = measures(one, tasks.observed[task])
            expected = torch.stack([at_points[:, i].mean(-1) for i in tasks.regions.values()])
            torch.testing.assert_close(found[..., run, task], expected)


@pytest.mark.parametrize(
    ("in_training", "in_protocol", "measured"),
    [(0.3, None, True), (0.3, 0.1, True), (0.3, 0.0, False), (0.0, 0.3, False), (0.0, None, False)],
)
def test_distributions_are_measured_where_labels_have_noise(in_training, in_protocol, measured):
    protocol = small.settings.EvaluatedProtocol(
        shots=5, support=(0.0, 5.0), updates=3, noise=in_protocol
    )
    tasks = SineDistribution(noise=in_training)
    settings = small.evaluate_settings("fomaml", protocols={"one": protocol}, tasks=tasks)
    algorithm = replace(fomaml.ALGORITHM, adaptation=ADAPTATION)
    theta = torch.stack([settings.shape.initialize(0)]).float()
    names = set(evaluate(settings, theta, algorithm))
    assert ("predictive/one" in names) == ("deviation/one" in names) == measured


# Baselines.


def test_the_posterior_of_bayes_covers_labels_as_it_says_and_no_baseline_is_likelier():
    protocol = small.settings.BaselineProtocol(
        shots=5, support=(0.0, 5.0), updates=1, gaussian_process_length_scale=1.5
    )
    settings = small.baseline_settings({"one": protocol}, 500, tasks=NOISY)
    found = {
        name: dict(zip(MEASURES, array[0].mean(-1).tolist(), strict=True))
        for name, array in baselines.evaluate(settings).items()
        if name.startswith("predictive/")
    }
    best = found.pop("predictive/one/bayes")
    assert len(found) == 3
    assert abs(best["coverage 90"] - 0.9) < 0.03 and abs(best["coverage 50"] - 0.5) < 0.05
    for name, other in found.items():
        assert best["nll"] < other["nll"], name


def test_without_noise_baselines_have_no_distributions():
    one = small.settings.BaselineProtocol(
        shots=5, support=(0.0, 5.0), updates=1, gaussian_process_length_scale=1.5, noise=0.3
    )
    found = baselines.evaluate(small.baseline_settings({"one": one}, 4))
    assert not [name for name in found if name.startswith("predictive/")]


def test_the_variance_of_bayes_is_that_of_waves_weighed_by_their_likelihood():
    tasks = held_out(small.protocol(3, (0.0, 5.0)), NOISY, "test-bank", 3)
    found = bayes.posterior(NOISY, tasks.support, tasks.query.x).variance
    draws = 400_000
    unit = torch.rand((draws, 2), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    waves = NOISY.draw(unit)
    for n in range(3):
        some = tasks.support.at(n)
        off = (waves(some.x.expand(draws, *some.x.shape)) - some.y)[..., 0]
        weight = (-off.square().sum(-1) / (2 * 0.3**2)).softmax(0)
        values = waves(tasks.query.x.expand(draws, *tasks.query.x.shape))
        mean = torch.tensordot(weight, values, 1)
        square = torch.tensordot(weight, values.square(), 1)
        torch.testing.assert_close(found[n], square - mean**2 + 0.09, rtol=0.05, atol=0.02)


def test_the_variances_of_process_and_linear_model_are_those_of_the_textbook():
    tasks = SineDistribution(frequency=(0.8, 1.2), noise=0.3)
    support = Bank(0, "test-bank", tasks, 1).support(6, (-5.0, 5.0))
    kernel = processes.Kernel(4.25, 1.5, noise=0.09)
    a, b = support.x, tasks.grid[None]
    gain = kernel(b, a) @ torch.linalg.inv(kernel.covariance(a))
    expected = 4.25 - (gain * kernel(b, a)).sum(-1) + 0.09
    found = processes.posterior(kernel, support, tasks.grid).variance[..., 0]
    torch.testing.assert_close(found, expected)

    components = linear_model.learned(training_tasks(tasks))
    prior = torch.diag(components.variances[:4])
    (_, phi), (_, there) = components.at(a[0]), components.at(tasks.grid)
    phi, there = phi[:, :4], there[:, :4]
    inverse = torch.linalg.inv(phi @ prior @ phi.T + 0.2 * torch.eye(6))
    left = prior - prior @ phi.T @ inverse @ phi @ prior
    found = linear_model.posterior(components, 4, 0.2, support, tasks.grid).variance[0, :, 0]
    torch.testing.assert_close(found, ((there @ left) * there).sum(-1) + 0.2)
