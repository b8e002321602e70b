"""Deep kernel transfer: a Gaussian process on learned features, with one kernel for all tasks.

    y ~ GP(c, k(h(x), h(x')) + s I)         h is the network's last hidden layer; s is the noise
    theta <- theta - meta_step_size * d/dtheta sum_t -log p(y_t | x_t) / n
    f(x | support) = c + k(x, X) K^-1 (Y - c),    K = k(X, X) + s I
    variance(x | support) = k(x, x) - k(x, X) K^-1 k(X, x) + s

theta is [hidden layers, c, log noise, the values of the kernel]. Nothing adapts to a task by
gradient, so training needs no query set: it maximizes the marginal likelihood of all n points of a
task. With a = K^-1 (y - c),

    -log p(y | x) = (y - c)' a / 2 + log det K / 2 + n log(2 pi) / 2
    d/dK = (K^-1 - a a') / 2,    d/dc = -1' a

and `metabench.learning.kernels` takes d/dK to the features and to the values of the kernel. The
features are computed in the type of theta; everything that follows is computed in float64, since a
covariance with little noise is nearly singular in float32.

Note: As in the authors' code, c is learned and the likelihood is divided by n. Their parameters
    pass through a softplus, ours through an exponential. Their spectral mixture multiplies a cosine
    for each feature, and its components begin equal, so they stay equal. Ours takes one cosine of
    all features, and its components begin with different frequencies. Their linear kernel is for
    classification.

Reference: Patacchiola et al. 2020, arXiv:1910.05199, algorithm 1;
    https://github.com/BayesWatch/deep-kernel-transfer.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Cost,
    Question,
    before_and_after,
    initial_weights,
)
from metabench.learning.hyperparameters import OuterLoop, Shots
from metabench.learning.kernels import KERNELS, covariance_factor, marginal_gradients
from metabench.learning.linear import product
from metabench.learning.network import Network
from metabench.learning.predictive import Predictive
from metabench.learning.tasks import TaskBlock, TaskDistribution

LEAST_NOISE = 1e-4
"""The least variance of the noise, as in the authors' code."""


class Hyperparameters(OuterLoop):
    """The defaults are those of the authors' code, which updates after each task."""

    shots: Shots = 10
    kernel: Annotated[
        Literal["rbf", "spectral", "linear"],
        Field(description="Kernel of the Gaussian process on the features."),
    ] = "rbf"


class Parts(NamedTuple):
    """The parts of the learned vector; all but the first are float64."""

    hidden: Tensor
    """Parameters of the hidden layers, ``(..., P of the trunk)``."""
    mean: Tensor
    """c, ``(..., 1, 1)``."""
    noise: Tensor
    """s, ``(..., 1, 1)``."""
    kernel: Tensor
    """Values of the kernel, ``(..., n)``."""


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial hidden layers of each seed, c = 0, log s = 0 and the kernel's values."""
    hidden = initial_weights(network, seeds, h)[:, : network.trunk.parameters]
    of_kernel = [KERNELS[h.kernel].begin(network.widths[-2], seed) for seed in seeds]
    return torch.cat([hidden, hidden.new_zeros(len(seeds), 2), torch.stack(of_kernel)], dim=-1)


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count one gradient for each task."""
    return Cost(h.meta_batch_size, h.meta_batch_size, h.meta_batch_size * h.shots)


def sample(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Draw fresh points of each task."""
    return (tasks.support(h.shots),)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the negative log marginal likelihood of a point.

    Args:
        network: The network.
        theta: ``(run, M)``.
        batch: Points of each task, ``(run, task, point, feature)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, M)``.
    """
    (points,) = batch
    hidden, mean, noise, values = _parts(network, theta)
    mean, noise = mean.squeeze(-1), noise.squeeze(-1)  # (run, 1)
    along = marginal_gradients(KERNELS[h.kernel], network, hidden, points, mean, noise, values)
    along_log_noise = (noise - LEAST_NOISE) * along.noise
    rest = torch.cat([along.mean, along_log_noise, along.values], dim=-1)
    return torch.cat([along.hidden, rest.to(theta.dtype)], dim=-1)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Return the prior mean before and the posterior mean after the support set."""

    def predicted(seen: bool) -> Tensor:
        if seen:
            return distribution(network, theta, question, h).mean
        prior = _parts(network, theta).mean.to(theta.dtype)
        return prior.expand(*theta.shape[:-1], question.x.shape[-2], 1)

    return before_and_after(predicted, question)


def distribution(
    network: Network, theta: Tensor, question: Question, h: Hyperparameters
) -> Predictive:
    """Return the posterior of labels given the support set."""
    parts, kernel, support = _parts(network, theta), KERNELS[h.kernel], question.batches.at(0)
    at_support = network.features(parts.hidden, support.x).double()
    at_x = network.features(parts.hidden, question.x).double()
    root = covariance_factor(kernel, at_support, parts.noise, parts.kernel)
    across = kernel(at_support, at_x, parts.kernel)  # (..., shots, point)
    solved = torch.cholesky_solve(across, root)
    mean = parts.mean + product(solved.mT, support.y - parts.mean)
    explained = (across * solved).sum(-2)[..., None]
    variance = kernel.diagonal(at_x, parts.kernel) - explained + parts.noise
    return Predictive(mean.to(theta.dtype), variance.to(theta.dtype))


def _parts(network: Network, theta: Tensor) -> Parts:
    """Return the parts of theta ``(..., M)``."""
    hidden, rest = theta.tensor_split([network.trunk.parameters], dim=-1)
    mean, noise, values = rest.double().tensor_split([1, 2], dim=-1)
    return Parts(hidden, mean[..., None], LEAST_NOISE + noise.exp()[..., None], values)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=sample,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions, steps=("own",), distribution=distribution),
)
