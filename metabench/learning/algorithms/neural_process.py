"""A conditional neural process: one network describes the support set, and another predicts.

    r = mean over the support set of e(x, y)         encoder e: x and y in, C numbers out
    f(x | support) = d(x, r)                         decoder d: x and C numbers in, one out
    theta <- theta - meta_step_size * d/dtheta sum_t L(f( . | support_t); query_t)

Both have the network's hidden layers. There is no gradient at test time: the first update is the
last. Before it, r is 0. Trained, as all else here, on the squared error, where its authors take a
likelihood.

Reference: Garnelo et al. 2018, arXiv:1807.01613, section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Question,
    before_and_after,
    support_and_query,
    whole_task_cost,
)
from metabench.learning.hyperparameters import ContextSize, MetaBatchSize, OuterLoop, Queries, Shots
from metabench.learning.linear import gradient_of
from metabench.learning.network import Network
from metabench.learning.tasks import Points


class Hyperparameters(OuterLoop):
    """There are no inner steps."""

    meta_batch_size: MetaBatchSize = 3
    shots: Shots = 10
    context: ContextSize = 64
    queries: Queries = None


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of encoder and decoder of each seed, ``(run, M)``."""
    pair = enumerate(_networks(network, h))
    return torch.cat(
        [torch.stack([part.initialize(seed, n) for seed in seeds]) for n, part in pair], dim=-1
    )


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss given the support set.

    Args:
        network: The network whose hidden layers both networks have.
        theta: [encoder, decoder], ``(run, M)``.
        batch: support ``(run, task, shots, feature)`` and query, x ``(point, feature)`` or
            ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, M)``.
    """
    support, query = batch

    def losses(theta: Tensor) -> Tensor:
        copies = one_copy_per_task(theta, h.meta_batch_size)
        prediction = _decoded(network, copies, _encoded(network, copies, support, h), query.x, h)
        return (prediction - query.y).square().mean((-2, -1))

    return gradient_of(losses, theta)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Describe the support set and predict."""
    described = _encoded(network, theta, question.batches.at(0), h)
    before = _decoded(network, theta, torch.zeros_like(described), question.x, h)
    after = _decoded(network, theta, described, question.x, h)
    return before_and_after(before, after, question)


def _networks(network: Network, h: Hyperparameters) -> tuple[Network, Network]:
    """Return the shapes of encoder and decoder."""
    hidden = network.widths[1:-1]
    features = network.widths[0]
    encoder = Network((features + 1, *hidden, h.context), network.activation)
    decoder = Network((features + h.context, *hidden, 1), network.activation)
    return encoder, decoder


def _encoded(network: Network, theta: Tensor, support: Points, h: Hyperparameters) -> Tensor:
    """Return r, ``(..., C)``."""
    encoder, _ = _networks(network, h)
    pairs = torch.cat([support.x.expand(*support.y.shape[:-1], -1), support.y], dim=-1)
    return encoder.predict(theta[..., : encoder.parameters], pairs).mean(-2)


def _decoded(
    network: Network, theta: Tensor, described: Tensor, x: Tensor, h: Hyperparameters
) -> Tensor:
    """Return d(x, r), ``(..., point, 1)``."""
    encoder, decoder = _networks(network, h)
    stack, points = described.shape[:-1], x.shape[-2]
    at_points = described[..., None, :].expand(*stack, points, -1)
    inputs = torch.cat([x.expand(*stack, points, -1), at_points], dim=-1)
    return decoder.predict(theta[..., encoder.parameters :], inputs)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=whole_task_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions, steps=("own",)),
)
