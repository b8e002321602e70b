"""A ridge head: learned features with an exact Bayesian update of the output layer.

    f(x) = h(x) w_0 + b            the prior mean is the network; h is its last hidden layer
    f(x | support) = f(x) + h(x) h(X)' (h(X) h(X)' + lambda I)^-1 (Y - f(X)),    lambda = exp(l)
    [theta, l] <- [theta, l] - meta_step_size * d/d[theta, l] sum_t L(f( . | support_t); query_t)

One update uses the whole support set X, Y: there are no inner steps, and the first update is the
last. By the chain rule, the outer gradient goes through the update. With H = h(X),
K = H H' + lambda I, k = K^-1 (Y - f(X)), the updated head v = w_0 + H' k, and r = dL/df at the
query points x,

    a = h(x)' r,   z = K^-1 H a
    dL/dw_0 = a - H' z,   dL/dh(x) = r v',   dL/dH = k (a - H' z)' - z v',   dL/dl = -lambda z' k

References: Bertinetto et al. 2019, arXiv:1805.08136 (R2-D2); Harrison et al. 2018,
arXiv:1807.08912 (ALPaCA), which introduces the prior mean.
"""

from __future__ import annotations

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
from metabench.learning.linear import product, solve
from metabench.learning.network import Network
from metabench.learning.tasks import Points


class Hyperparameters(OuterLoop):
    """The algorithm has no inner steps."""

    meta_batch_size: MetaBatchSize = 3
    shots: Shots = 10
    queries: Queries = None


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, then l = 0, ``(run, P + 1)``."""
    theta = initial_weights(network, seeds, h)
    return torch.cat([theta, torch.zeros_like(theta[:, :1])], dim=-1)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss after the update of the head.

    Args:
        network: The network.
        theta: [theta, l], ``(run, P + 1)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, P + 1)``.
    """
    support, query = batch
    scale = theta[:, -1].exp()  # the exponential keeps lambda positive under any outer step
    along_theta, along_l = network.gradient_through_ridge(theta[:, :-1], scale, (support, query))
    return torch.cat([along_theta, along_l[:, None]], dim=-1)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Update the head and predict."""

    def predicted(seen: bool) -> Tensor:
        if not seen:
            return network.predict(theta[..., :-1], question.x)
        return _given(network, theta, question.batches.at(0), question.x)

    return before_and_after(predicted, question)


def _given(network: Network, theta: Tensor, support: Points, x: Tensor) -> Tensor:
    """Return f(x | support), ``(..., point, 1)``."""
    theta, scale = theta[..., :-1], theta[..., -1:, None].exp()
    at_support, at_x = network.features(theta, support.x), network.features(theta, x)
    residual = support.y - network.predict(theta, support.x)
    k = solve(_regularized(at_support, scale), residual)  # (..., shots, 1)
    return network.predict(theta, x) + product(at_x, product(at_support.mT, k))


def _regularized(features: Tensor, scale: Tensor) -> Tensor:
    """Return K = h h' + lambda I of features ``(..., point, width)``, ``(..., point, point)``."""
    return product(features, features.mT) + scale * torch.eye(features.shape[-2], dtype=scale.dtype)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=whole_task_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions, steps=("own",)),
)
