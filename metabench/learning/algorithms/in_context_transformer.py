"""A transformer that learns in context: from a sequence of labelled points, it predicts the next.

    f(x_i | x_1, y_1, .., x_{i-1}, y_{i-1}) = transformer(x_i; the points before i)
    L_t = mean over i = 1 .. K of (f(x_i | the points before i) - y_i)^2      K = shots
    theta <- theta - meta_step_size * d/dtheta sum_t L_t

A labelled point sees itself and the points before it, so one pass gives all predictions of a
sequence, and training covers every number of points below K. The order of the support points
matters. No gradient is taken at test time: the first update is the last. Before it, no point is
seen. theta has the layout of `metabench.learning.transformer`.

Note: In the paper, x and y are separate tokens of a sequence with learned positions, and the
distribution of tasks grows more difficult during training.

References: Garg et al. 2022, arXiv:2208.01066, section 2; von Oswald et al. 2023, arXiv:2212.07677,
whose tokens are pairs of x and y.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Cost,
    Question,
    before_and_after,
)
from metabench.learning.autograd import gradient_of
from metabench.learning.hyperparameters import Blocks, Heads, MetaBatchSize, OuterLoop, Shots
from metabench.learning.network import Network
from metabench.learning.tasks import TaskBlock, TaskDistribution
from metabench.learning.transformer import Transformer


class Hyperparameters(OuterLoop):
    """The algorithm has no inner steps."""

    meta_batch_size: MetaBatchSize = 16
    shots: Shots = 20
    blocks: Blocks = 2
    heads: Heads = 4


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count one gradient for each task, over its sequence."""
    points = h.meta_batch_size * h.shots
    return Cost(h.meta_batch_size, h.meta_batch_size, point_gradients=points)


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, ``(run, M)``."""
    return _model(network, h).begin(seeds)


def sample(tasks: TaskBlock, h: Hyperparameters) -> Batch:
    """Draw a sequence of fresh points for each task."""
    return (tasks.support(h.shots),)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the mean loss of a sequence.

    Args:
        network: The network, whose last hidden layer is as wide as the transformer.
        theta: ``(run, M)``.
        batch: The sequences, ``(run, task, shots, feature)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, M)``.
    """
    (points,) = batch
    model, shots = _model(network, h), points.y.shape[-2]
    visible = torch.cat([_earlier(shots, itself=True), _earlier(shots)])

    def losses(theta: Tensor) -> Tensor:
        predicted = model.outputs(theta, points, points.x, visible)
        return (predicted - points.y).square().mean((-2, -1))

    return gradient_of(losses, theta)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Predict after the sequence of support points."""
    return before_and_after(partial(_given, network, theta, question, h), question)


def _given(
    network: Network, theta: Tensor, question: Question, h: Hyperparameters, seen: bool
) -> Tensor:
    """Return predictions that see all support points, or none."""
    support = question.batches.at(0)
    shots = support.y.shape[-2]
    by_points = torch.full((question.x.shape[-2], shots), seen)
    visible = torch.cat([_earlier(shots, itself=True), by_points])
    return _model(network, h).given(theta, support, question.x, visible)


def _earlier(shots: int, itself: bool = False) -> Tensor:
    """Return which points of a sequence are before each one, ``(shots, shots)``."""
    return torch.ones(shots, shots, dtype=torch.bool).tril(0 if itself else -1)


def _model(network: Network, h: Hyperparameters) -> Transformer:
    """Return the transformer."""
    return Transformer(network, h.blocks, h.heads)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=sample,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions, steps=("own",)),
)
