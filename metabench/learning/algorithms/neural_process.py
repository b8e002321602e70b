"""A conditional neural process: an encoder of the support set, and a decoder that predicts.

    r = mean over the support set of e(x, y)         encoder e: inputs x and y, C outputs
    f(x | support) = d(x, r)                         decoder d: inputs x and r, one output
    theta <- theta - meta_step_size * d/dtheta sum_t L(f( . | support_t); query_t)

Both have the network's hidden layers. No gradient is taken at test time: the first update is the
last. Before it, r is 0. theta has the layout of `metabench.learning.encoder_decoder`.

Note: The loss is the squared error, and every support set has the same size. In the paper, the loss
is a likelihood and sizes vary, as in `conditional_neural_process`.

Reference: Garnelo et al. 2018, arXiv:1807.01613, section 2.
"""

from __future__ import annotations

from torch import Tensor

from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Question,
    before_and_after,
    support_and_query,
    whole_task_cost,
)
from metabench.learning.encoder_decoder import EncoderDecoder
from metabench.learning.hyperparameters import ContextSize, MetaBatchSize, OuterLoop, Queries, Shots
from metabench.learning.network import Network


class Hyperparameters(OuterLoop):
    """The algorithm has no inner steps."""

    meta_batch_size: MetaBatchSize = 3
    shots: Shots = 10
    context: ContextSize = 64
    queries: Queries = None


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of the encoder and the decoder of each seed, ``(run, M)``."""
    return EncoderDecoder(network, h.context).begin(seeds)


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
    return EncoderDecoder(network, h.context).gradient(theta, support, query)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Encode the support set and predict."""
    model, support = EncoderDecoder(network, h.context), question.batches.at(0)

    def predicted(seen: bool) -> Tensor:
        return model.predict(theta, question.x, support if seen else None)

    return before_and_after(predicted, question)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=whole_task_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions, steps=("own",)),
)
