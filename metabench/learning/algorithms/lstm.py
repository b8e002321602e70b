"""The LSTM meta-learner: it reads the support set point by point, then predicts in one more step.

    s_k, c_k = lstm(x_k, y_k; s_{k-1}, c_{k-1}),    k = 1 .. K         s_0 = c_0 = 0
    f(x | support) = head(s),    s, _ = lstm(x, 0; s_K, c_K)
    theta <- theta - meta_step_size * d/dtheta sum_t L(f( . | support_t); query_t)

The head is linear. The order of support points matters. The size of each training task's support
set is random, from least_shots to shots, so one theta serves sequences of any length. No gradient
is taken at test time: the first update is the last. Before it, no point is read. The learned vector
is [lstm, head], with the layout of `metabench.learning.recurrent`. Of the study's network, only its
inputs, its outputs and its kind of initial weights are used.

Note: In Hochreiter et al. each point comes with the label of the one before, and each is predicted.
In Huisman et al. each comes with its own label, as here. Support sets have one size there, and the
LSTM may have several layers.

References: Hochreiter et al. 2001, doi:10.1007/3-540-44668-0_13; Huisman et al. 2023,
    arXiv:2310.14139 (the plain LSTM that OP-LSTM is compared with), and the authors' code.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

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
from metabench.learning.hyperparameters import VariedSupport
from metabench.learning.network import Network
from metabench.learning.recurrent import LSTM, PARTS, Units, at_each
from metabench.learning.tasks import Points


class Hyperparameters(VariedSupport):
    """The algorithm has no inner steps."""

    units: Units = 64


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, ``(run, M)``."""
    lstm, head = _parts(network, h)
    rows = [torch.cat([lstm.initialize(seed, 0), head.initialize(seed, PARTS)]) for seed in seeds]
    return torch.stack(rows)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss after reading the support set.

    Args:
        network: The network.
        theta: [lstm, head], ``(run, M)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, M)``.
    """
    (support, known), (x, y) = batch[0].known(), batch[1]
    x = x.expand(*y.shape[:-1], -1)

    def losses(theta: Tensor) -> Tensor:
        predicted = _outputs(network, theta, (support, known), x, h)
        return (predicted - y).square().mean((-2, -1))

    return gradient_of(losses, theta)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Read the support set and predict."""
    return before_and_after(partial(_given, network, theta, question, h), question)


def _given(
    network: Network, theta: Tensor, question: Question, h: Hyperparameters, seen: bool
) -> Tensor:
    """Return the predictions after all support points, or after none."""
    stack, support = theta.shape[:-1], question.batches.at(0)
    # Each set of points is the only sequence of its learned vector.
    x, y, at = (t.expand(*stack, *t.shape[-2:]).unsqueeze(-3) for t in (*support, question.x))
    known = None if seen else torch.zeros_like(y, dtype=torch.bool)
    return _outputs(network, theta, (Points(x, y), known), at, h).squeeze(-3)


def _outputs(
    network: Network,
    theta: Tensor,
    given: tuple[Points, Tensor | None],
    x: Tensor,
    h: Hyperparameters,
) -> Tensor:
    """Return the outputs at x ``(..., set, point, feature)`` after sets of points that are known.

    Sets and what is known are those of `LSTM.read`.
    """
    lstm, head = _parts(network, h)
    recurrent, weights = theta.split([lstm.parameters, head.parameters], dim=-1)
    state = lstm.read(recurrent, *given)
    return at_each((head, weights), lstm.features(recurrent, state, x))


def _parts(network: Network, h: Hyperparameters) -> tuple[LSTM, Network]:
    """Return the LSTM, and the head: a network without hidden layers."""
    return LSTM(network, h.units), replace(network, widths=(h.units, network.widths[-1]))


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=varied_support_cost,
    sample=varied_support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions, steps=("own",)),
)
