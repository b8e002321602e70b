"""ALPaCA and deep kernel transfer, which predict distributions: checked with literal peers."""

from math import exp, log

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import Question
from metabench.learning.algorithms import alpaca, deep_kernel, ridge
from metabench.learning.baselines import processes
from metabench.learning.kernels import COMPONENTS, KERNELS
from metabench.learning.network import Network
from metabench.learning.tasks import (
    Bank,
    PlaneWaveDistribution,
    Points,
    SineDistribution,
    TaskStream,
)

SEEDS = (4, 0, 9)
WIDTH = 5
NOISY = {1: SineDistribution(noise=0.3), 2: PlaneWaveDistribution(noise=0.3, grid_points=5)}
EXACT = {"rtol": 1e-10, "atol": 1e-11}
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


def network_of(features=1, activation="tanh"):
    return Network((features, 6, WIDTH, 1), activation)


def settings(name, **more):
    """An algorithm and hyperparameters."""
    module = {"alpaca": alpaca, "deep_kernel": deep_kernel}[name]
    return module, module.Hyperparameters(meta_step_size=0.001, meta_batch_size=2, shots=7, **more)


def moved(theta, size=0.2, seed=0):
    """Theta, moved off any special place."""
    generator = torch.Generator().manual_seed(seed)
    return theta + size * torch.randn(theta.shape, dtype=theta.dtype, generator=generator)


def batch_of(module, h, features=1, seeds=SEEDS, dtype=torch.float64):
    block = TaskStream(NOISY[features], seeds, h.meta_batch_size).block(0)
    return tuple(points.at(0).to(dtype) for points in module.ALGORITHM.sample(block, h))


def features_of(network, theta, x):
    """The last hidden layer of one network, written for autograd; theta lacks nothing it needs."""
    squashed = {"tanh": torch.tanh, "relu": torch.relu}[network.activation]
    padded = torch.cat([theta, theta.new_zeros(WIDTH + 1)])[: network.parameters]
    for weight, bias in network.layers(padded)[:-1]:
        x = squashed(x @ weight + bias)
    return x


def unit(count):
    return torch.eye(count, dtype=torch.float64)


def of_linear(a, b, values):
    return values[0].exp() * a @ b.T


def of_rbf(a, b, values):
    variance, length = values.exp()
    return variance * torch.exp(-(a[:, None] - b[None]).square().sum(-1) / (2 * length**2))


def of_spectral(a, b, values):
    weights, scales, frequencies = values.split([COMPONENTS, *2 * [COMPONENTS * a.shape[-1]]])
    difference, total = a[:, None] - b[None], 0
    for q in range(COMPONENTS):
        scale, frequency = (
            part.unflatten(0, (COMPONENTS, -1))[q] for part in (scales, frequencies)
        )
        envelope = torch.exp(-(scale.exp() * difference).square().sum(-1) / 2)
        total = total + weights[q].exp() * envelope * torch.cos(difference @ frequency)
    return total


LITERAL = {"linear": of_linear, "rbf": of_rbf, "spectral": of_spectral}


def process(network, theta, x, kernel):
    """The joint distribution of the labels of one task under deep kernel transfer."""
    c, log_noise, *_ = theta[(hidden := network.parameters - WIDTH - 1) :]
    h = features_of(network, theta[:hidden], x)
    noise = deep_kernel.LEAST_NOISE + log_noise.exp()
    covariance = LITERAL[kernel](h, h, theta[hidden + 2 :]) + noise * unit(len(x))
    return MultivariateNormal(c.expand(len(x)), covariance)


@every_kernel
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("features", NOISY)
def test_deep_kernel_transfer_ascends_the_likelihood_of_the_points_of_a_task(
    features, activation, kernel, each_engine
):
    module, h = settings("deep_kernel", kernel=kernel)
    network, (points,) = network_of(features, activation), batch_of(module, h, features)
    theta = moved(module.begin(network, SEEDS, h))
    found = module.meta_gradient(network, theta, (points,), h)
    for run in range(3):
        watched = theta[run].clone().requires_grad_()
        total = 0
        for x, y in points.at(run).unbind():
            total = total - process(network, watched, x, kernel).log_prob(y[:, 0]) / 7
        torch.testing.assert_close(found[run], torch.autograd.grad(total, watched)[0], **EXACT)


def linear_model(network, theta, support, x):
    """The distribution of labels at x by ALPaCA, from the precision of w."""
    root = theta[network.parameters : -1].view(WIDTH, WIDTH)
    of_prior, noise = root @ root.T, theta[-1].exp()
    weight, bias = network.layers(theta[: network.parameters])[-1]
    at_support, at_x = (features_of(network, theta, place) for place in (support.x, x))
    precision = of_prior + at_support.T @ at_support
    evidence = at_support.T @ (support.y - bias) + of_prior @ weight
    mean = at_x @ torch.linalg.solve(precision, evidence) + bias
    spread = (at_x @ torch.linalg.solve(precision, at_x.T)).diagonal()
    return Normal(mean[:, 0], (noise * (1 + spread)).sqrt())


def gradient_of_likelihood(network, theta, support, query):
    """What autograd finds for the tasks of one run."""
    watched, total = theta.clone().requires_grad_(), 0
    for task in range(len(support.y)):
        x = query.x if query.x.dim() == 2 else query.x[task]
        given = linear_model(network, watched, support.at(task), x)
        total = total - given.log_prob(query.y[task, :, 0]).mean()
    return torch.autograd.grad(total, watched)[0]


def of_run(points, run):
    """The points of one run; a grid is that of all."""
    return Points(points.x if points.x.dim() == 2 else points.x[run], points.y[run])


@pytest.mark.parametrize("queries", [None, 9])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("features", NOISY)
def test_alpaca_ascends_the_likelihood_of_the_query_points_given_the_support_set(
    features, activation, queries
):
    module, h = settings("alpaca", queries=queries)
    network, batch = network_of(features, activation), batch_of(module, h, features)
    theta = moved(module.begin(network, SEEDS, h))
    found = module.meta_gradient(network, theta, batch, h)
    for run in range(3):
        expected = gradient_of_likelihood(network, theta[run], *(of_run(p, run) for p in batch))
        torch.testing.assert_close(found[run], expected, **EXACT)


def test_alpaca_bears_a_prior_that_is_nearly_certain_of_nothing_in_one_direction():
    module, h = settings("alpaca")
    network, batch = network_of(), batch_of(module, h, seeds=(4,))
    theta = moved(module.begin(network, (4,), h))
    theta[0, network.parameters : -1] = torch.diag(torch.tensor([1e-4, 1, 1, 1, 1])).flatten()
    found = module.meta_gradient(network, theta, batch, h)[0]
    expected = gradient_of_likelihood(network, theta[0], *(of_run(p, 0) for p in batch))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


# Predictions.


def distribution(module, h, theta, support, x, network=None):
    """The distribution that one run predicts for each task."""
    copies = one_copy_per_task(theta, len(support.y))
    question = Question(support.repeated(1), x)
    return module.distribution(network or network_of(), copies, question, h)


def held_out(shots=7, tasks=4):
    return Bank(0, "test-bank", NOISY[1], tasks).support(shots, (-5.0, 5.0))


GRID = NOISY[1].grid


def problem(name, **more):
    """A run of an algorithm with nothing special about it."""
    module, h = settings(name, **more)
    return module, h, moved(module.begin(network_of(), (4,), h))[0]


def test_alpaca_predicts_the_posterior_of_its_linear_model():
    module, h, theta = problem("alpaca")
    support = held_out()
    found = distribution(module, h, theta, support, GRID)
    for task in range(4):
        expected = linear_model(network_of(), theta, support.at(task), GRID)
        torch.testing.assert_close(found.mean[task, :, 0], expected.mean, **EXACT)
        torch.testing.assert_close(found.variance[task, :, 0], expected.variance, **EXACT)


@every_kernel
def test_predicting_one_label_after_another_has_the_likelihood_of_all(kernel):
    """log p(y_1 .. y_n) = sum_k log p(y_k | y_1 .. y_{k-1}), which holds of exact posteriors."""
    module, h, theta = problem("deep_kernel", kernel=kernel)
    (x, y), network = held_out(tasks=1).at(0), network_of()
    first = process(network, theta, x[:1], kernel).log_prob(y[:1, 0])
    total = first
    for k in range(1, len(x)):
        given = distribution(module, h, theta, Points(x[None, :k], y[None, :k]), x[k : k + 1])
        total = total + Normal(given.mean[0, 0], given.variance[0, 0].sqrt()).log_prob(y[k])
    torch.testing.assert_close(total, process(network, theta, x, kernel).log_prob(y[:, 0])[None])


@pytest.mark.parametrize("name", ["alpaca", "deep_kernel"])
def test_the_mean_is_what_is_predicted_and_every_update_is_the_first(name):
    module, h, theta = problem(name)
    copies, support = one_copy_per_task(theta, 4), held_out()
    question = Question(support.repeated(3), GRID)
    before, *after = module.predictions(network_of(), copies, question, h)
    mean = module.distribution(network_of(), copies, question, h).mean
    assert all(torch.equal(each, mean) for each in after) and not torch.equal(before, mean)
    if name == "alpaca":
        torch.testing.assert_close(
            before, network_of().predict(theta[:-26].expand(4, -1), GRID), **EXACT
        )
    else:
        assert (before == theta[network_of().parameters - WIDTH - 1]).all(), "the mean c"


@pytest.mark.parametrize("name", ["alpaca", "deep_kernel"])
def test_the_order_of_support_points_does_not_matter(name):
    module, h, theta = problem(name)
    support = held_out()
    turned = Points(support.x.flip(-2), support.y.flip(-2))
    found = [distribution(module, h, theta, points, GRID) for points in (support, turned)]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


@pytest.mark.parametrize("name", ["alpaca", "deep_kernel"])
def test_more_points_make_more_certain_but_noise_remains(name):
    module, h, theta = problem(name)
    noise = theta[-1].exp() if name == "alpaca" else theta[-3].exp()
    few, many = (
        distribution(module, h, theta, held_out(shots), GRID).variance for shots in (3, 30)
    )
    assert (many < few).all() and (many > noise).all()


def test_deep_kernel_transfer_on_given_features_is_the_gaussian_process_of_the_baselines():
    module, h, theta = problem("deep_kernel", kernel="rbf")
    network, support = network_of(), held_out()
    theta[-4] = 0  # the baseline has no mean
    hidden = theta[: network.parameters - WIDTH - 1]
    noise, variance, length = theta[-3:].exp().tolist()
    known = processes.Kernel(variance, length, noise + deep_kernel.LEAST_NOISE)
    features = [features_of(network, hidden, x) for x in (support.x, GRID)]
    expected = processes.posterior(known, Points(features[0], support.y), features[1])
    for one, other in zip(distribution(module, h, theta, support, GRID), expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def ridge_of(head, scale, support):
    """What a ridge head predicts with the network `head` and lambda."""
    theta = torch.cat([head, torch.tensor([log(scale)], dtype=head.dtype)])
    question = Question(support.repeated(1), GRID)
    h = ridge.Hyperparameters(meta_step_size=0.001)
    return ridge.predictions(network_of(), one_copy_per_task(theta, 4), question, h)[1]


def test_alpaca_with_the_prior_of_a_ridge_head_predicts_like_it():
    module, h, theta = problem("alpaca")
    theta[network_of().parameters : -1] = 0.7**0.5 * unit(WIDTH).flatten()
    expected = ridge_of(theta[: network_of().parameters], 0.7, held_out())
    found = distribution(module, h, theta, held_out(), GRID)
    torch.testing.assert_close(found.mean, expected, **EXACT)


def test_alpaca_with_a_huge_precision_predicts_its_prior():
    module, h, theta = problem("alpaca")
    theta[network_of().parameters : -1] = 1e6 * unit(WIDTH).flatten()
    found = distribution(module, h, theta, held_out(), GRID)
    prior = network_of().predict(theta[: network_of().parameters], GRID)
    torch.testing.assert_close(found.mean, prior.expand(4, -1, -1), rtol=1e-9, atol=1e-9)
    assert found.variance.numpy() == pytest.approx(exp(theta[-1]), rel=1e-9)


def test_the_linear_kernel_is_a_ridge_head_without_a_prior_mean():
    module, h, theta = problem("deep_kernel", kernel="linear")
    theta[-3] = 0
    noise, variance = theta[-2:].exp().tolist()
    head = torch.cat([theta[:-3], torch.zeros(WIDTH + 1, dtype=theta.dtype)])
    expected = ridge_of(head, (noise + deep_kernel.LEAST_NOISE) / variance, held_out())
    found = distribution(module, h, theta, held_out(), GRID)
    torch.testing.assert_close(found.mean, expected, **EXACT)


def test_alpaca_learns_how_large_errors_are_and_a_ridge_head_cannot():
    """With a prior that excludes adaptation, the slope along log s is (1 - mean error^2 / s) / 2.

    It is 0 where s is the mean squared error, which is no matter to the squared error itself.
    """
    module, h = settings("alpaca")
    network, (support, query) = network_of(), batch_of(module, h)
    theta = module.begin(network, SEEDS, h)
    theta[:, network.parameters : -1] *= 1e6
    copies = one_copy_per_task(theta[:, : network.parameters], 2)
    errors = (network.predict(copies, query.x) - query.y).square().mean((1, 2, 3))
    for factor, expected in ((1.0, 0.0), (0.5, -1.0), (2.0, 0.5)):
        theta[:, -1] = (factor * errors).log()
        slope = module.meta_gradient(network, theta, (support, query), h)[:, -1]
        torch.testing.assert_close(slope, torch.full_like(slope, expected), rtol=1e-6, atol=1e-6)


# Stacks.


@every_kernel
def test_a_run_of_deep_kernel_transfer_does_not_notice_its_neighbours(kernel, each_engine):
    """Nor one that diverged, nor one whose covariance is not positive definite."""
    module, h = settings("deep_kernel", kernel=kernel)
    network, points = network_of(), batch_of(module, h, dtype=torch.float32)
    theta = module.begin(network, SEEDS, h).float()
    support = held_out().to(torch.float32)

    def computed(theta, points):
        gradient = module.meta_gradient(network, theta, points, h)
        copies = one_copy_per_task(theta, 4)
        question = Question(support.repeated(1), GRID.float())
        return gradient, *module.distribution(network, copies, question, h)

    together = computed(theta, points)
    for lost in (torch.nan, 1000.0):
        stack = theta.clone()
        stack[1] = lost
        for found, expected in zip(computed(stack, points), together, strict=True):
            assert torch.equal(found[[0, 2]], expected[[0, 2]])
            assert found[1].isnan().any()
    for run in range(3):
        one = slice(run, run + 1)
        alone = computed(theta[one], tuple(p.at(one) for p in points))
        for found, expected in zip(alone, together, strict=True):
            assert torch.equal(found[0], expected[run])


def test_float32_costs_only_the_rounding_of_features(each_engine):
    """Nearly equal points and little noise make covariances that float32 cannot factor."""
    module, h, theta = problem("deep_kernel", kernel="rbf")
    theta[-4:] = torch.tensor([0.0, -20.0, 8.0, 2.0])  # c, log s, log v, log l
    x = torch.linspace(0, 0.1, 10, dtype=torch.float64)[None, :, None]
    support = Points(x, x.sin())
    exact = distribution(module, h, theta, support, GRID)
    rounded = distribution(module, h, theta.float(), support.to(torch.float32), GRID.float())
    torch.testing.assert_close(rounded.mean.double(), exact.mean, rtol=1e-3, atol=1e-3)
    assert (rounded.variance > 0).all()


# Kernels.


@every_kernel
def test_a_kernel_has_the_diagonal_that_it_says_and_is_that_of_its_equation(kernel):
    values = moved(KERNELS[kernel].begin(WIDTH, 0))
    a, b = (moved(torch.zeros(n, WIDTH, dtype=torch.float64), 1.0, seed=n) for n in (4, 6))
    torch.testing.assert_close(
        KERNELS[kernel](a, b, values), LITERAL[kernel](a, b, values), **EXACT
    )
    torch.testing.assert_close(
        KERNELS[kernel].diagonal(a, values)[:, 0], KERNELS[kernel](a, a, values).diagonal(), **EXACT
    )
    assert torch.linalg.eigvalsh(KERNELS[kernel](b, b, values)).min() > -1e-9


def test_a_spectral_mixture_without_frequencies_is_an_rbf_kernel():
    spectral, rbf = KERNELS["spectral"], KERNELS["rbf"]
    values = spectral.begin(WIDTH, 0)
    values[COMPONENTS : COMPONENTS * (1 + WIDTH)] = -0.3
    values[COMPONENTS * (1 + WIDTH) :] = 0
    a = moved(torch.zeros(4, WIDTH, dtype=torch.float64), 1.0)
    expected = rbf(a, a, torch.tensor([0.0, 0.3], dtype=torch.float64))
    torch.testing.assert_close(spectral(a, a, values), expected, **EXACT)


def test_components_of_a_spectral_mixture_begin_different_and_depend_on_the_seed():
    values = torch.stack([KERNELS["spectral"].begin(WIDTH, seed) for seed in (0, 1)])
    frequencies = values[:, COMPONENTS * (1 + WIDTH) :].unflatten(1, (COMPONENTS, -1))
    assert len(frequencies.flatten(0, 1).unique(dim=0)) == 2 * COMPONENTS
