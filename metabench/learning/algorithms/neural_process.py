"""A conditional neural process: an encoder of the support set, and a decoder that predicts.

    r = mean over the support set of e(x, y)         encoder e: inputs x and y, C outputs
    f(x | support) = d(x, r)                         decoder d: inputs x and r, one output
    theta <- theta - meta_step_size * d/dtheta sum_t L(f( . | support_t); query_t)

Both have the network's hidden layers. No gradient is taken at test time: the first update is the
last. Before it, r is 0.

Two shortcuts save work. The output layer of e is linear, so r is its value at the mean features.
r is the same at all points, so as an input of d it only shifts the biases of the first layer by
r W_r. The learned vector is [encoder, decoder without W_r, W_r].

Note: The loss is the squared error, as for all algorithms here. The paper maximizes a likelihood.

Reference: Garnelo et al. 2018, arXiv:1807.01613, section 2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

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
from metabench.learning.linear import product
from metabench.learning.network import Network
from metabench.learning.tasks import Points


class Hyperparameters(OuterLoop):
    """The algorithm has no inner steps."""

    meta_batch_size: MetaBatchSize = 3
    shots: Shots = 10
    context: ContextSize = 64
    queries: Queries = None


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of the encoder and the decoder of each seed, ``(run, M)``.

    The decoder is initialized as a network with the inputs x and r.
    """
    x, context, width = network.widths[0], h.context, network.widths[1]
    encoder = _encoder(network, h)
    whole = replace(network, widths=(x + context, *network.widths[1:]))  # the decoder with W_r
    encoders = torch.stack([encoder.initialize(seed, 0) for seed in seeds])
    decoders = torch.stack([whole.initialize(seed, 1) for seed in seeds])
    of_x, of_r, rest = decoders.tensor_split([x * width, (x + context) * width], dim=-1)
    return torch.cat([encoders, of_x, rest, of_r], dim=-1)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss given the support set.

    Args:
        network: The network, whose hidden layers both the encoder and the decoder have.
        theta: [encoder, decoder, W_r], ``(run, M)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, M)``.
    """
    support, query = batch
    tasks, shots = support.y.shape[1:3]
    encoder, parts = _encoder(network, h), _parts(network, theta, h)
    weight, bias = encoder.layers(parts.encoder)[-1]  # output layer, (run, width, C)

    pairs = _pairs(support).flatten(1, 2)  # of all tasks, in one pass through a run's encoder
    hidden = encoder.hidden(parts.encoder, pairs)
    mean = hidden.last.unflatten(1, (tasks, shots)).mean(2)  # (run, task, width)
    r = product(mean, weight) + bias
    along_decoder, g = network.shifted_gradient(
        one_copy_per_task(parts.decoder, tasks), product(r, parts.weight), *query
    )
    along_r = product(g, parts.weight.mT)
    at_features = (product(along_r, weight.mT) / shots).repeat_interleave(shots, dim=1)
    along_encoder = encoder.pulled_back(parts.encoder, pairs, hidden, at_features)
    of_weight, of_bias = encoder.layers(along_encoder)[-1]
    of_weight.copy_(product(mean.mT, along_r))
    of_bias.copy_(along_r.sum(1, keepdim=True))
    return torch.cat([along_encoder, along_decoder, product(r.mT, g).flatten(1)], dim=-1)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Encode the support set and predict."""
    encoder, parts = _encoder(network, h), _parts(network, theta, h)
    weight, bias = encoder.layers(parts.encoder)[-1]
    mean = encoder.features(parts.encoder, _pairs(question.batches.at(0))).mean(-2, keepdim=True)
    shift = product(product(mean, weight) + bias, parts.weight).squeeze(-2)
    after = network.predict(parts.decoder, question.x, shift)
    if not question.every:
        return after
    before = network.predict(parts.decoder, question.x)
    return before_and_after(before, after, question)


class _Parts(NamedTuple):
    """The parts of the learned vector."""

    encoder: Tensor
    """Parameters of the encoder, ``(..., n)``."""
    decoder: Tensor
    """Parameters of the decoder without W_r, ``(..., P)``."""
    weight: Tensor
    """W_r, ``(..., C, width)``."""


def _parts(network: Network, theta: Tensor, h: Hyperparameters) -> _Parts:
    """Return the parts of theta ``(..., M)``, as views."""
    ends = _encoder(network, h).parameters, _encoder(network, h).parameters + network.parameters
    encoder, decoder, weight = theta.tensor_split(ends, dim=-1)
    return _Parts(encoder, decoder, weight.unflatten(-1, (h.context, -1)))


def _encoder(network: Network, h: Hyperparameters) -> Network:
    """Return the network of the encoder."""
    x, *hidden, _ = network.widths
    return replace(network, widths=(x + 1, *hidden, h.context))


def _pairs(points: Points) -> Tensor:
    """Return x and y concatenated, ``(..., point, feature + 1)``."""
    return torch.cat([points.x.expand(*points.y.shape[:-1], -1), points.y], dim=-1)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=whole_task_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions, steps=("own",)),
)
