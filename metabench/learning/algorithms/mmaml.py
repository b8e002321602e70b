"""MMAML: MAML whose initialization is modulated for each task by an encoder of its support set.

    v = [s, s'], the last states of two LSTMs that read the support set from both ends
    (gamma, beta) = head(v),    Gamma = 1 + gamma
    z_l = Gamma_l (h_{l-1} W_l + b_l) + beta_l      hidden layer l, with a number for each unit
    theta_0 = theta,   theta_{k+1} = theta_k - alpha grad L(theta_k, Gamma, beta; support)
    theta <- theta - meta_step_size * d/dtheta sum_t L(theta_U, Gamma, beta; query)

and likewise for the LSTMs and the head. alpha is inner_step_size. Inner steps adapt theta alone.

A modulated network is the plain network phi with W_l diag(Gamma_l) and Gamma_l b_l + beta_l. One
step on theta moves phi by -alpha Gamma^2 grad L(phi), so phi descends with a step size for each
parameter, and its gradient for phi_0 and for Gamma^2 is that of Meta-SGD. MAML is the special case
of a head of zeros. The order of support points matters. Before the first update, no point is read.
The learned vector is [theta, LSTMs, head].

Note: In the authors' code the LSTMs have two layers, inner gradients are clipped, and with two
modes only the first hidden layer is modulated. An optimizer other than plain descent, which a
protocol may set, sees the gradient for phi.

Reference: Vuorio et al. 2019, arXiv:1910.13616, section 4 (FiLM), and the authors' code.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Cost,
    Question,
    descending_elementwise,
    second_order_cost,
    support_and_query,
)
from metabench.learning.hyperparameters import InnerLoop, MetaBatchSize, Queries
from metabench.learning.network import Network
from metabench.learning.recurrent import LSTM, PARTS, Units
from metabench.learning.step_sizes import Sizes
from metabench.learning.tasks import Points, TaskDistribution

DIRECTIONS = 2
"""Number of LSTMs: one reads the support set forwards, one backwards."""


class Hyperparameters(InnerLoop):
    """The defaults are those of MAML, so that only the modulation differs."""

    meta_batch_size: MetaBatchSize = 3
    queries: Queries = None
    units: Units = 40


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count MAML, and a gradient of the encoder at each support point."""
    maml = second_order_cost(h, tasks)
    return maml._replace(point_gradients=maml.point_gradients + h.meta_batch_size * h.shots)


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, ``(run, M)``."""
    lstm, head = _encoder(network, h)
    first = [1 + PARTS * n for n in range(DIRECTIONS + 1)]  # the network itself is part 0
    rows = [
        torch.cat(
            [
                network.initialize(seed),
                *(lstm.initialize(seed, n) for n in first[:-1]),
                head.initialize(seed, first[-1]),
            ]
        )
        for seed in seeds
    ]
    return torch.stack(rows)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss after modulation and adaptation.

    Args:
        network: The network.
        theta: [theta, LSTMs, head], ``(run, M)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, M)``.
    """
    support, (x, y) = batch
    learned = theta.detach().requires_grad_()
    start, squares = _modulated(network, learned, support, h)  # (run, task, P)

    # Gradients through a descent are summed over tasks, so each task is a run here.
    alone = Points(*(_each_alone(points) for points in support))
    sizes = Sizes(h.inner_step_size * _each_alone(squares)[None])
    descent = *alone.repeated(h.inner_steps), sizes
    of_query = (x if x.dim() < y.dim() else _each_alone(x)), _each_alone(y)
    along_start, along_sizes = network.gradient_through(_each_alone(start), descent, *of_query)
    assert along_sizes is not None  # (run * task, 1, P)
    along = along_start.view_as(start), h.inner_step_size * along_sizes.view_as(start)
    (gradient,) = torch.autograd.grad((start, squares), learned, along)
    return gradient


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Modulate the network, adapt and predict."""
    alpha: float | Tensor = question.multiple * h.inner_step_size
    if question.step_size is not None:
        alpha = question.step_size[..., None]
    start, squares = _given(network, theta, question, h)
    after = descending_elementwise(network, start, Sizes((alpha * squares)[None]), question)
    if 0 not in question.measured:
        return after
    before, _ = _given(network, theta, question, h, seen=False)
    return torch.cat([network.predict(before, question.x)[None], after[1:]])


def _given(
    network: Network, theta: Tensor, question: Question, h: Hyperparameters, seen: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the results of `_modulated` given one support set, all or none of which is read."""
    support = question.batches.at(0)
    x, y = (t.expand(*theta.shape[:-1], *t.shape[-2:]).unsqueeze(-3) for t in support)
    start, squares = _modulated(network, theta, Points(x, y), h, seen)
    return start.squeeze(-2), squares.squeeze(-2)


def _modulated(
    network: Network, theta: Tensor, support: Points, h: Hyperparameters, seen: bool = True
) -> tuple[Tensor, Tensor]:
    """Return phi_0 and Gamma^2 of each parameter, ``(..., set, P)`` both.

    Args:
        network: The network.
        theta: ``(..., M)``.
        support: Sets of points, ``(..., set, shots, feature)``.
        h: Hyperparameters.
        seen: Whether the points are read.
    """
    lstm, head = _encoder(network, h)
    lengths = network.parameters, DIRECTIONS * lstm.parameters, head.parameters
    shared, recurrent, weights = theta.split(lengths, dim=-1)
    both = Points(*(torch.stack([part, part.flip(-2)], dim=-4) for part in support))
    known = None if seen else torch.zeros_like(both.y, dtype=torch.bool)
    state = lstm.read(recurrent.unflatten(-1, (DIRECTIONS, -1)), both, known)
    v = state.hidden.transpose(-3, -2).flatten(-2)  # (..., set, 2 * unit)
    scale, shift = _of_parameters(network, head.predict(weights, v))
    return shared.unsqueeze(-2) * scale + shift, scale.square()


def _of_parameters(network: Network, modulation: Tensor) -> tuple[Tensor, Tensor]:
    """Return Gamma of each parameter, and what is added to it, ``(..., P)``.

    Args:
        network: The network.
        modulation: gamma and beta of all hidden units, ``(..., 2 * unit)``.
    """
    *stack, _ = modulation.shape
    hidden = network.widths[1:-1]
    gammas, betas = (part.split(hidden, dim=-1) for part in modulation.chunk(2, dim=-1))
    scales, shifts = [], []
    for fan_in, gamma, beta in zip(network.widths[:-2], gammas, betas, strict=True):
        # The rows of W_l, and then b_l, have a number for each unit.
        rows = (1 + gamma).unsqueeze(-2).expand(*stack, fan_in + 1, -1)
        scales.append(rows.flatten(-2))
        shifts += [beta.new_zeros(*stack, fan_in * beta.shape[-1]), beta]
    output = modulation.new_zeros(*stack, network.layer_sizes[-1])
    return torch.cat([*scales, output + 1], dim=-1), torch.cat([*shifts, output], dim=-1)


def _encoder(network: Network, h: Hyperparameters) -> tuple[LSTM, Network]:
    """Return the LSTM of one direction, and the head: a network without hidden layers."""
    outputs = 2 * sum(network.widths[1:-1])
    return LSTM(network, h.units), replace(network, widths=(DIRECTIONS * h.units, outputs))


def _each_alone(values: Tensor) -> Tensor:
    """Return values of each task ``(run, task, ...)`` as ``(run * task, 1, ...)``."""
    return values.detach().flatten(0, 1).unsqueeze(1)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions),
)
