"""A conditional neural process: one network describes the support set, another predicts from the
description.

    r = mean over the support set of e(x, y)                 e: two inputs, the network's hidden
    layers, C outputs
    f(x | support) = d(x, r)                                 d: 1 + C inputs, the network's hidden
    layers, one output theta <- theta - meta_step_size * d/dtheta sum_t L(f( . | support_t);
    query_t)

There is no gradient at test time: the first update is the last. Before it, r is 0. Trained, as all
else here, on the squared error, where its authors take a likelihood.

Reference: Garnelo et al. 2018, arXiv:1807.01613, section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithms.protocol import Batch, Hyperparameters, before_and_after
from metabench.learning.algorithms.protocol import support_and_query as sample
from metabench.learning.algorithms.protocol import whole_task_cost as cost
from metabench.learning.linear import gradient_of
from metabench.learning.network import Network
from metabench.learning.tasks import Points

__all__ = ["begin", "cost", "meta_gradient", "predictions", "sample"]

HYPERPARAMETERS = ("context", "meta_batch_size", "meta_step_size", "shots")
OPTIONS = ("queries",)
STEPS = ("own",)


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


def predictions(
    network: Network,
    theta: Tensor,
    batches: Points,
    x: Tensor,
    h: Hyperparameters,
    step_size: Tensor | None = None,
    every: bool = True,
) -> Tensor:
    """Describe the support set and predict; see `metabench.learning.algorithms.protocol.Algorithm`."""
    described = _encoded(network, theta, batches.at(0), h)
    before, after = (
        _decoded(network, theta, r, x, h) for r in (torch.zeros_like(described), described)
    )
    return before_and_after(before, after, len(batches.x), every)


def _networks(network: Network, h: Hyperparameters) -> tuple[Network, Network]:
    """Return the shapes of encoder and decoder."""
    hidden = network.widths[1:-1]
    shapes = (2, *hidden, h.context), (1 + h.context, *hidden, 1)
    encoder, decoder = (Network(shape, network.activation) for shape in shapes)
    return encoder, decoder


def _encoded(network: Network, theta: Tensor, support: Points, h: Hyperparameters) -> Tensor:
    """Return r, ``(..., C)``."""
    encoder, _ = _networks(network, h)
    pairs = torch.cat(torch.broadcast_tensors(*support), dim=-1)
    return encoder.predict(theta[..., : encoder.parameters], pairs).mean(-2)


def _decoded(
    network: Network, theta: Tensor, described: Tensor, x: Tensor, h: Hyperparameters
) -> Tensor:
    """Return d(x, r), ``(..., point, 1)``."""
    encoder, decoder = _networks(network, h)
    stack, points = described.shape[:-1], x.shape[-2]
    inputs = x.expand(*stack, points, 1), described[..., None, :].expand(*stack, points, h.context)
    return decoder.predict(theta[..., encoder.parameters :], torch.cat(inputs, dim=-1))
