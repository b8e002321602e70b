"""CAVIA: adapt a few context parameters, which are additional inputs, and share the network.

    z_1 = x W_1 + c W_c + b_1           a context c ``(C,)`` shifts the biases of the first layer
    c_0 = 0,   c_{k+1} = c_k - alpha dL(theta, W_c, c_k; support)/dc
    [theta, W_c] <- [theta, W_c] - meta_step_size * sum_t dL(theta, W_c, c_U; query)/d[theta, W_c]

alpha is inner_step_size, and k runs over inner_steps. By the chain rule, the outer gradient goes
through the adaptation. s(c) is theta with b_1 shifted by c W_c, g = grad L(s; support), g_b is its
part for b_1, and H is the Hessian at s:

    dL/dc = W_c g_b,   u_U = W_c grad_b L(s(c_U); query)
    q_k = -alpha H(s(c_k)) shift(u_{k+1} W_c),   u_k = u_{k+1} + W_c q_{k,b}
    dL/dtheta = grad L(s(c_U); query) + sum_k q_k
    dL/dW_c = c_U x grad_b L(s(c_U); query) + sum_k (c_k x q_{k,b} - alpha u_{k+1} x g_{k,b})

Reference: Zintgraf et al. 2019, arXiv:1810.03642, section 3.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Question,
    initial_weights,
    second_order_cost,
    support_and_query,
)
from metabench.learning.hyperparameters import ContextSize, InnerLoop, MetaBatchSize, Queries
from metabench.learning.network import Network
from metabench.learning.optimizers import INNER_OPTIMIZERS
from metabench.learning.randomness import uniforms


class Hyperparameters(InnerLoop):
    """In its source, five context parameters adapt in one step."""

    meta_batch_size: MetaBatchSize = 3
    context: ContextSize = 5
    queries: Queries = None


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights and W_c of each seed, ``(run, P + C * width)``.

    W_c is uniform on +-1/sqrt(features + C), since the first layer has both x and c as inputs.
    """
    count = h.context * network.widths[1]
    unit = torch.stack([torch.from_numpy(uniforms(seed, "init", 1, count)) for seed in seeds])
    weight = (2 * unit - 1) / sqrt(network.widths[0] + h.context)
    return torch.cat([initial_weights(network, seeds, h), weight], dim=-1)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss after adaptation of the context.

    Args:
        network: The network.
        theta: [theta, W_c], ``(run, P + C * width)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, of theta's shape.
    """
    support, query = batch
    shared, weight = theta[:, : network.parameters], _weight(network, theta, h)
    along_theta, along_weight = network.gradient_through_context(
        shared, weight, (support, query), h.inner_step_size, h.inner_steps
    )
    return torch.cat([along_theta, along_weight.flatten(1)], dim=-1)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Adapt the context and predict."""
    alpha: float | Tensor = question.multiple * h.inner_step_size
    if question.step_size is not None:
        alpha = question.step_size[..., None]
    shared, weight = theta[..., : network.parameters], _weight(network, theta, h)
    rule = INNER_OPTIMIZERS[question.optimizer or "sgd"]

    context = theta.new_zeros((*theta.shape[:-1], h.context))
    memory, shifts = context.new_zeros(rule.moments, *context.shape), [_combined(context, weight)]
    for done, batch in enumerate(question.batches.unbind()):
        gradient = network.gradient_along_shift(shared, shifts[-1], *batch)
        along_context = (weight * gradient[..., None, :]).sum(-1)  # W_c g_b, (..., C)
        direction, memory = rule.direction(along_context, memory, done)
        context = context - alpha * direction
        shifts.append(_combined(context, weight))

    found = [network.predict(shared, question.x, shifts[n]) for n in question.measured]
    return torch.stack(found)


def _weight(network: Network, theta: Tensor, h: Hyperparameters) -> Tensor:
    """Return W_c, ``(..., C, width)``."""
    return theta[..., network.parameters :].unflatten(-1, (h.context, -1))


def _combined(context: Tensor, weight: Tensor) -> Tensor:
    """Return c W_c, ``(..., width)``."""
    return (context[..., None] * weight).sum(-2)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=second_order_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions),
)
