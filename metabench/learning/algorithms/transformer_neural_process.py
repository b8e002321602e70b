"""A transformer neural process: support and query points are tokens that attend to the support set.

    y | x, support ~ N(m, s^2),    (m, z) = transformer(x; support),    s = 0.1 + 0.9 log(1 + e^z)
    theta <- theta + meta_step_size * d/dtheta sum_t mean log p(query_t | support_t)

Every point sees all support points, so predictions depend neither on the order of
support points nor on other query points. The size of each training task's support set is random,
from least_shots to shots. No gradient is taken at test time: the first update is the last. Before
it, the support set is empty. theta has the layout of `metabench.learning.transformer`.

Note: The authors' transformer normalizes after each part, has four hidden layers in the embedding
and six blocks.

Reference: Nguyen and Grover 2022, arXiv:2207.04179, section 3.2 (TNP-D).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from metabench.learning import gaussian_head
from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Question,
    before_and_after,
    varied_support_and_query,
    varied_support_cost,
)
from metabench.learning.autograd import gradient_of
from metabench.learning.hyperparameters import Blocks, Heads, VariedSupport
from metabench.learning.network import Network
from metabench.learning.predictive import Predictive
from metabench.learning.transformer import Transformer


class Hyperparameters(VariedSupport):
    """The algorithm has no inner steps."""

    blocks: Blocks = 2
    heads: Heads = 4


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, ``(run, M)``."""
    return _model(network, h).begin(seeds)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query set's negative log likelihood.

    Args:
        network: The network, whose last hidden layer is as wide as the transformer.
        theta: ``(run, M)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, M)``.
    """
    (support, known), (x, y) = batch[0].known(), batch[1]
    x, model = x.expand(*y.shape[:-1], -1), _model(network, h)

    def losses(theta: Tensor) -> Tensor:
        return gaussian_head.loss(model.outputs(theta, support, x, visible=known.mT), y)

    return gradient_of(losses, theta)


def distribution(
    network: Network, theta: Tensor, question: Question, h: Hyperparameters
) -> Predictive:
    """Return the distributions of labels given the support set."""
    return _given(network, theta, question, h)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Return the means of the distributions of labels."""
    return before_and_after(lambda seen: _given(network, theta, question, h, seen).mean, question)


def _given(
    network: Network, theta: Tensor, question: Question, h: Hyperparameters, seen: bool = True
) -> Predictive:
    """Return the distributions of labels given the support set, or given that no point is seen."""
    support = question.batches.at(0)
    visible = torch.full_like(support.y, seen, dtype=torch.bool).mT
    outputs = _model(network, h).given(theta, support, question.x, visible)
    return gaussian_head.distribution(outputs)


def _model(network: Network, h: Hyperparameters) -> Transformer:
    """Return the transformer, which has two outputs."""
    two_outputs = replace(network, widths=(*network.widths[:-1], 2))
    return Transformer(two_outputs, h.blocks, h.heads)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=varied_support_cost,
    sample=varied_support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions, steps=("own",), distribution=distribution),
)
