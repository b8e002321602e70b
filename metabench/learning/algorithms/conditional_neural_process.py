"""A conditional neural process that is trained as in its paper: by the likelihood of labels.

    r = mean over the support set of e(x, y)         encoder e: inputs x and y, C outputs
    y | x, support ~ N(m, s^2)                       decoder d: inputs x and r, two outputs
        (m, z) = d(x, r),    s = 0.1 + 0.9 log(1 + e^z)
    theta <- theta + meta_step_size * d/dtheta sum_t mean log p(query_t | support_t)

Both have the network's hidden layers. The size of each training task's support set is random, from
least_shots to shots, so one theta serves support sets of any size. No gradient is taken at test
time: the first update is the last. Before it, r is 0. theta has the layout of
`metabench.learning.encoder_decoder`.

Note: In the authors' code, the tasks of a meta-batch share the size of their support sets, and the
query set includes the support set. The interval of the support set is the whole domain there, which
is the default here.

Reference: Garnelo et al. 2018, arXiv:1807.01613, section 2, and the authors' code.
"""

from __future__ import annotations

from dataclasses import replace

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
from metabench.learning.encoder_decoder import EncoderDecoder
from metabench.learning.hyperparameters import ContextSize, VariedSupport
from metabench.learning.network import Network
from metabench.learning.predictive import Predictive


class Hyperparameters(VariedSupport):
    """The algorithm has no inner steps."""

    context: ContextSize = 64


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of the encoder and the decoder of each seed, ``(run, M)``."""
    return _model(network, h).begin(seeds)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query set's negative log likelihood.

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
    return _model(network, h).gradient(theta, support, query, gaussian_head.stand_in)


def distribution(
    network: Network, theta: Tensor, question: Question, h: Hyperparameters
) -> Predictive:
    """Encode the support set and return the distributions of labels."""
    return _given(network, theta, question, h)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Encode the support set and return the means of the distributions of labels."""
    return before_and_after(lambda seen: _given(network, theta, question, h, seen).mean, question)


def _given(
    network: Network, theta: Tensor, question: Question, h: Hyperparameters, seen: bool = True
) -> Predictive:
    """Return the distributions of labels given the support set, or given that no point is seen."""
    support = question.batches.at(0) if seen else None
    return gaussian_head.distribution(_model(network, h).predict(theta, question.x, support))


def _model(network: Network, h: Hyperparameters) -> EncoderDecoder:
    """Return the encoder and a decoder with two outputs."""
    two_outputs = replace(network, widths=(*network.widths[:-1], 2))
    return EncoderDecoder(two_outputs, h.context)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=varied_support_cost,
    sample=varied_support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions, steps=("own",), distribution=distribution),
)
