"""ALPaCA: Bayesian linear regression on learned features, with a learned prior and learned noise.

    y = h(x) w + b + noise,    noise ~ N(0, s),    w ~ N(w_0, s P_0^-1),    P_0 = A A'
    P = P_0 + H' H,    v = P^-1 (H' (Y - b) + P_0 w_0)         the posterior of w is N(v, s P^-1)
    p(y | x, support) = N(h(x) v + b, s u(x)),    u(x) = 1 + h(x) P^-1 h(x)'
    theta <- theta - meta_step_size * d/dtheta sum_t -log p(query_t | support_t) / n

h is the last hidden layer, H its value at the support points, and w_0 and b are the output layer.
theta is [network, A, log s]. One update uses the whole support set: there are no inner steps, and
the first update is the last.

The ridge head (ridge.py) is the same regression with P_0 = lambda I, trained by the squared error,
which cannot tell what the noise is. Here the precision of every direction of features is learned,
and the likelihood of the query points weighs each error by the predicted variance.

The gradient of a task is as follows, with r = dL/d(mean) and q = dL/du at the query points, whose
features are Q, S = P^-1, t = S Q' r and W = S Q' diag(q) Q S:

    dL/dQ = r v' + 2 diag(q) Q S,    dL/dH = (Y - b - H v) t' - H t v' - 2 H W
    dL/dw_0 = P_0 t,    dL/db = 1' r - 1' H t,    dL/dA = (t (w_0 - v)' + (w_0 - v) t' - 2 W) A

The features are computed in the type of theta; everything that follows is computed in float64,
since P may be nearly singular.

Note: The authors know the variance of the noise; here it is learned. They have no b. Their A begins
    with random numbers, for which P_0 is the identity on average; ours begins as the identity. In
    training they shorten each support set to a random number of points; we use all of its points.

Reference: Harrison et al. 2018, arXiv:1807.08912, section 3; https://github.com/StanfordASL/ALPaCA.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Question,
    before_and_after,
    initial_weights,
    support_and_query,
    whole_task_cost,
)
from metabench.learning.hyperparameters import MetaBatchSize, OuterLoop, Queries, Shots
from metabench.learning.linear import factor_or_nan, product
from metabench.learning.network import Network
from metabench.learning.predictive import Predictive


class Hyperparameters(OuterLoop):
    """The algorithm has no inner steps. The defaults are those of the authors' code."""

    meta_batch_size: MetaBatchSize = 10
    shots: Shots = 10
    queries: Queries = None


class Parts(NamedTuple):
    """The parts of the learned vector; all but the first are float64."""

    network: Tensor
    """Parameters of the network, ``(..., P)``."""
    weight: Tensor
    """w_0, ``(..., width, 1)``."""
    bias: Tensor
    """b, ``(..., 1, 1)``."""
    root: Tensor
    """A, ``(..., width, width)``."""
    precision: Tensor
    """P_0, ``(..., width, width)``."""
    noise: Tensor
    """s, ``(..., 1, 1)``."""


class Posterior(NamedTuple):
    """The posterior of w; see the equations above."""

    mean: Tensor
    """v, ``(..., width, 1)``."""
    factor: Tensor
    """The lower Cholesky factor of P, ``(..., width, width)``."""


class Gradients(NamedTuple):
    """The gradients of the loss of each task, ``(run, task, ...)``."""

    support: Tensor
    """Along the features of support points, ``(..., shots, width)``."""
    query: Tensor
    """Along the features of query points, ``(..., point, width)``."""
    weight: Tensor
    """t, ``(..., width, 1)``; along w_0, it is P_0 t."""
    bias: Tensor
    """Along b, ``(..., 1)``."""
    precision: Tensor
    """The gradient along P_0 and its transpose, added, ``(..., width, width)``."""
    noise: Tensor
    """Along log s, ``(..., 1)``."""


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, A = I and log s = 0, ``(run, M)``."""
    theta, width = initial_weights(network, seeds, h), network.widths[-2]
    root = torch.eye(width, dtype=theta.dtype).flatten().expand(len(seeds), -1)
    return torch.cat([theta, root, theta.new_zeros(len(seeds), 1)], dim=-1)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the negative log likelihood of a query point.

    Args:
        network: The network.
        theta: [network, A, log s], ``(run, M)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, M)``.
    """
    support, query = batch
    tasks, shots, count = *support.y.shape[1:3], query.y.shape[2]
    parts = _parts(network, theta)
    shared = Parts(*(part[:, None] for part in parts))  # the same for all tasks
    query_x = query.x.expand(len(theta), tasks, -1, -1)
    x = torch.cat([support.x, query_x], dim=2).flatten(1, 2)
    hidden = network.hidden(parts.network, x)
    features = hidden.last.unflatten(1, (tasks, shots + count)).double()
    at_support, at_query = features.split([shots, count], dim=2)
    along = _gradients(shared, at_support, at_query, support.y, query.y)

    cotangent = torch.cat([along.support, along.query], dim=2).flatten(1, 2).to(theta.dtype)
    along_network = network.pulled_back(parts.network, x, hidden, cotangent)
    of_weight, of_bias = network.layers(along_network)[-1]
    of_weight.copy_(product(parts.precision, along.weight.sum(1)))
    of_bias.copy_(along.bias.sum(1, keepdim=True))
    of_root = product(along.precision.sum(1), parts.root)
    rest = torch.cat([of_root.flatten(1), along.noise.sum(1)], dim=-1)
    return torch.cat([along_network, rest.to(theta.dtype)], dim=-1)


def _gradients(
    parts: Parts, at_support: Tensor, at_query: Tensor, y: Tensor, labels: Tensor
) -> Gradients:
    """Return the gradients of each task, by the equations above.

    Args:
        parts: The learned values.
        at_support: Features of the support points, ``(run, task, shots, width)``.
        at_query: Features of the query points, ``(run, task, point, width)``.
        y: Labels of the support points, ``(run, task, shots, 1)``.
        labels: Labels of the query points, ``(run, task, point, 1)``.
    """
    v, factor = _posterior(parts, at_support, y)
    solved = torch.cholesky_solve(at_query.mT, factor).mT  # Q S
    u = 1 + (at_query * solved).sum(-1, keepdim=True)
    error = labels - (product(at_query, v) + parts.bias)
    variance, count = parts.noise * u, labels.shape[-2]
    surplus = (1 - error.square() / variance) / (2 * count)  # along the log of each variance
    r, q = -error / variance / count, surplus / u

    t, w = product(solved.mT, r), product((q * solved).mT, solved)
    left = y - parts.bias - product(at_support, v)
    turned = product(t, (parts.weight - v).mT)
    return Gradients(
        support=product(left, t.mT) - product(at_support, product(t, v.mT) + 2 * w),
        query=product(r, v.mT) + 2 * q * solved,
        weight=t,
        bias=r.sum(-2) - product(at_support, t).sum(-2),
        precision=turned + turned.mT - 2 * w,
        noise=surplus.sum(-2),
    )


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Return the prior mean before and the posterior mean after the support set."""

    def predicted(seen: bool) -> Tensor:
        if seen:
            return distribution(network, theta, question, h).mean
        return network.predict(_parts(network, theta).network, question.x)

    return before_and_after(predicted, question)


def distribution(
    network: Network, theta: Tensor, question: Question, h: Hyperparameters
) -> Predictive:
    """Return the posterior of labels given the support set."""
    parts, support = _parts(network, theta), question.batches.at(0)
    at_support = network.features(parts.network, support.x).double()
    at_x = network.features(parts.network, question.x).double()
    v, factor = _posterior(parts, at_support, support.y)
    mean = product(at_x, v) + parts.bias
    u = 1 + (at_x * torch.cholesky_solve(at_x.mT, factor).mT).sum(-1, keepdim=True)
    return Predictive(mean.to(theta.dtype), (parts.noise * u).to(theta.dtype))


def _posterior(parts: Parts, at_support: Tensor, y: Tensor) -> Posterior:
    """Return the posterior of w given features ``(..., shots, width)`` and labels."""
    factor = factor_or_nan(parts.precision + product(at_support.mT, at_support))
    evidence = product(at_support.mT, y - parts.bias) + product(parts.precision, parts.weight)
    return Posterior(torch.cholesky_solve(evidence, factor), factor)


def _parts(network: Network, theta: Tensor) -> Parts:
    """Return the parts of theta ``(..., M)``."""
    width = network.widths[-2]
    ends = network.parameters, network.parameters + width * width
    of_network, root, noise = theta.tensor_split(ends, dim=-1)
    weight, bias = (part.double() for part in network.layers(of_network)[-1])
    square, scale = root.unflatten(-1, (width, width)).double(), noise.double().exp()
    precision = product(square, square.mT)
    return Parts(of_network, weight, bias, square, precision, scale[..., None])


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=whole_task_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions, steps=("own",), distribution=distribution),
)
