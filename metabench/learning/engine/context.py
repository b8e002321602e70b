"""The gradient through the adaptation of a context that shifts the first layer, on torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metabench.learning.engine.heads import MetaBatch
from metabench.learning.linear import product

if TYPE_CHECKING:
    from metabench.learning.engine.reference import Reference


def gradient_through_context(
    engine: Reference, theta: Tensor, weight: Tensor, tasks: MetaBatch, step_size: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Implement `Network.gradient_through_context`. The equations are those of cavia.py."""
    support, query = tasks
    bias = engine.network.first_bias
    copies = theta[:, None].expand(-1, support[1].shape[1], -1)  # (run, task, P)
    context = theta.new_zeros(*copies.shape[:2], weight.shape[-2])  # (run, task, C)
    path = []  # context, shifted network and gradient of each step, for the way back
    for _ in range(steps):
        shifted = engine.shifted(copies, product(context, weight))
        gradient = engine.loss_and_gradient(shifted, *support)[1][..., bias]
        path.append((context, shifted, gradient))
        context = context - step_size * product(gradient, weight.mT)

    _, total = engine.loss_and_gradient(engine.shifted(copies, product(context, weight)), *query)
    at_biases = total[..., bias]
    along_weight, u = product(context.mT, at_biases), product(at_biases, weight.mT)
    for context, shifted, gradient in reversed(path):
        direction = torch.zeros_like(total)
        direction[..., bias] = product(u, weight)
        q = -step_size * engine.hessian_product(shifted, *support, direction)
        along_weight = along_weight + product(context.mT, q[..., bias])
        along_weight = along_weight - step_size * product(u.mT, gradient)
        total, u = total + q, u + product(q[..., bias], weight.mT)
    return total.sum(1), along_weight
