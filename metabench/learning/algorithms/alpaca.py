"""ALPaCA: Bayesian linear regression on learned features, with a learned prior and learned noise.

    y = h(x) w + b + noise,    noise ~ N(0, s),    w ~ N(w_0, s P_0^-1),    P_0 = A A'
    J = H P_0^-1,   K = J H' + I,   k = K^-1 (Y - b - H w_0)
    v = w_0 + J' k,   S = P_0^-1 - J' K^-1 J         the posterior of w is N(v, s S)
    p(y | x, support) = N(h(x) v + b, s u(x)),    u(x) = 1 + h(x) S h(x)'
    theta <- theta - meta_step_size * d/dtheta sum_t -log p(query_t | support_t) / n

h is the last hidden layer, H its value at the support points, and w_0 and b are the output layer.
theta is [network, A, log s], and n the number of query points. One update uses the whole support
set: there are no inner steps, and the first update is the last.

The ridge head (ridge.py) is the same regression with P_0 = lambda I, trained by the squared error,
which cannot tell what the noise is. Here the precision of every direction of features is learned,
and the likelihood of the query points weighs each error by the predicted variance.

The gradient of a task is as follows, with r = dL/d(mean) and q = dL/du at the query points, whose
features are Q, C = Q J' K^-1, Z = Q S = Q P_0^-1 - C J and t = Z' r, so that H t = C' r:

    dL/dQ = r v' + 2 diag(q) Z,    dL/dH = k t' - C' (r v' + 2 diag(q) Z)
    dL/dw_0 = P_0 t,    dL/db = 1' r - 1' C' r,    dL/dP_0 = t (w_0 - v)' - Z' diag(q) Z

The features are computed in the type of theta; everything that follows is computed in float64,
since P_0 may be far from the identity.

Note: The authors know the variance of the noise; here it is learned. They have no b. Their A begins
    with random numbers, for which P_0 is the identity on average; ours begins as the identity. In
    training they shorten each support set to a random number of points; we use all of its points.

Reference: Harrison et al. 2018, arXiv:1807.08912, section 3; https://github.com/StanfordASL/ALPaCA.
"""

from __future__ import annotations

from collections.abc import Callable
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
    covariance: Tensor
    """P_0^-1, ``(..., width, width)``."""
    noise: Tensor
    """s, ``(..., 1, 1)``."""


class Prior(NamedTuple):
    """What is known of points before any label."""

    features: Tensor
    """H or Q, ``(..., point, width)``."""
    gain: Tensor
    """H P_0^-1 or Q P_0^-1, ``(..., point, width)``."""
    mean: Tensor
    """H w_0 + b or Q w_0 + b, ``(..., point, 1)``."""

    def each(self, function: Callable[[Tensor], Tensor]) -> Prior:
        """Return a function of each of its parts."""
        return Prior(*map(function, self))


class Posterior(NamedTuple):
    """The posterior at query points; see the equations above."""

    surplus: Tensor
    """k, which is also what the posterior leaves of the support labels, ``(..., shots, 1)``."""
    gain: Tensor
    """C, ``(..., point, shots)``."""
    mean: Tensor
    """Q v + b, ``(..., point, 1)``."""
    u: Tensor
    """``(..., point, 1)``."""


class Gradients(NamedTuple):
    """The gradients of the loss, ``(run, ...)``. All but the first two are summed over tasks."""

    support: Tensor
    """Along the features of support points, ``(run, task, shots, width)``."""
    query: Tensor
    """Along the features of query points, ``(run, task, point, width)``."""
    weight: Tensor
    """t, ``(run, width, 1)``; along w_0, it is P_0 t."""
    bias: Tensor
    """Along b, ``(run, 1)``."""
    precision: Tensor
    """The gradient along P_0 and its transpose, added, ``(run, width, width)``."""
    noise: Tensor
    """Along log s, ``(run, 1)``."""


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
    parts, (runs, tasks, shots) = _parts(network, theta), support.y.shape[:3]
    grid = query.x.dim() == 2  # the same for all tasks, so it passes a run's network once
    query_x = query.x.expand(runs, *query.x.shape) if grid else query.x.flatten(1, 2)
    x = torch.cat([support.x.flatten(1, 2), query_x], dim=1)
    hidden = network.hidden(parts.network, x)
    known, of_support = _prior(parts, hidden.last.double()), tasks * shots
    at_support = known.each(lambda part: part[:, :of_support].unflatten(1, (tasks, shots)))
    at_query = known.each(
        lambda part: part[:, of_support:].unflatten(1, (1 if grid else tasks, -1))
    )
    along = _gradients(parts, at_support, at_query, support.y, query.y)

    along_query = along.query.sum(1) if grid else along.query.flatten(1, 2)
    cotangent = torch.cat([along.support.flatten(1, 2), along_query], dim=1).to(theta.dtype)
    along_hidden = network.pulled_back(parts.network, x, hidden, cotangent)
    of_weight = product(parts.root, product(parts.root.mT, along.weight))
    of_root = product(along.precision, parts.root)
    rest = torch.cat([of_weight[..., 0], along.bias, of_root.flatten(1), along.noise], dim=-1)
    return torch.cat([along_hidden, rest.to(theta.dtype)], dim=-1)


def _gradients(
    parts: Parts, at_support: Prior, at_query: Prior, y: Tensor, labels: Tensor
) -> Gradients:
    """Return the gradients of a run's tasks, by the equations above.

    Args:
        parts: The learned values, ``(run, ...)``.
        at_support: What is known of the support points, ``(run, task, shots, ...)``.
        at_query: What is known of the query points, ``(run, task, point, ...)``, or of the grid,
            ``(run, 1, point, ...)``.
        y: Labels of the support points, ``(run, task, shots, 1)``.
        labels: Labels of the query points, ``(run, task, point, 1)``.
    """
    k, c, mean, u = _posterior(at_support, at_query, y)
    error = labels - mean
    variance, count = parts.noise[:, None] * u, labels.shape[-2]
    surplus = (1 - error.square() / variance) / (2 * count)  # along the log of each variance
    r, q = -error / variance / count, surplus / u

    z = at_query.gain - product(c, at_support.gain)
    t, moved = product(r.mT, z), product(k.mT, at_support.gain)  # t and v - w_0, as rows
    weighted = q * z
    along_query = torch.addcmul(2 * weighted, r, parts.weight[:, None].mT + moved)
    turned = product(t.squeeze(-2).mT, moved.squeeze(-2))  # summed over tasks, as is the next
    curved = product(weighted.flatten(1, 2).mT, z.flatten(1, 2))
    return Gradients(
        support=torch.addcmul(-product(c.mT, along_query), k, t),
        query=along_query,
        weight=t.sum(1).mT,
        bias=r.sum((1, 2)) - product(c.mT, r).sum((1, 2)),
        precision=-(turned + turned.mT + 2 * curved),
        noise=surplus.sum((1, 2)),
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
    at_support, at_x = (
        _prior(parts, network.features(parts.network, x).double()) for x in (support.x, question.x)
    )
    _, _, mean, u = _posterior(at_support, at_x, support.y)
    return Predictive(mean.to(theta.dtype), (parts.noise * u).to(theta.dtype))


def _prior(parts: Parts, features: Tensor) -> Prior:
    """Return what is known of points with features ``(..., point, width)``."""
    mean = product(features, parts.weight) + parts.bias
    return Prior(features, product(features, parts.covariance), mean)


def _posterior(support: Prior, query: Prior, y: Tensor) -> Posterior:
    """Return the posterior at query points given labels of the support points."""
    unit = torch.eye(y.shape[-2], dtype=torch.float64)
    factor = factor_or_nan(product(support.gain, support.features.mT) + unit)  # of K
    surplus = torch.cholesky_solve(y - support.mean, factor)
    across = _across(support, query)  # J Q'
    gain = torch.cholesky_solve(across, factor).mT
    u = 1 + (query.features * query.gain).sum(-1, keepdim=True)
    u = u - (across.mT * gain).sum(-1, keepdim=True)
    return Posterior(surplus, gain, query.mean + product(across.mT, surplus), u)


def _across(support: Prior, query: Prior) -> Tensor:
    """Return J Q', ``(..., shots, point)``: in one product for the tasks that share a grid."""
    if query.features.shape[:-2] == support.gain.shape[:-2]:
        return product(support.gain, query.features.mT)
    rows = product(support.gain.flatten(1, 2), query.features.squeeze(1).mT)
    return rows.unflatten(1, support.gain.shape[1:3])


def _parts(network: Network, theta: Tensor) -> Parts:
    """Return the parts of theta ``(..., M)``."""
    width = network.widths[-2]
    ends = network.parameters, network.parameters + width * width
    of_network, root, noise = theta.tensor_split(ends, dim=-1)
    weight, bias = (part.double() for part in network.layers(of_network)[-1])
    square, scale = root.unflatten(-1, (width, width)).double(), noise.double().exp()
    covariance = torch.cholesky_inverse(factor_or_nan(product(square, square.mT)))
    return Parts(of_network, weight, bias, square, covariance, scale[..., None])


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=whole_task_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions, steps=("own",), distribution=distribution),
)
