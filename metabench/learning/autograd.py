"""Gradients by autograd, for algorithms without a hand-written gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_of(objective: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    """Return the gradient of a sum of losses with respect to theta, by autograd.

    Args:
        objective: Function from theta to losses of any shape, which are summed.
        theta: ``(..., M)``. Not changed.

    Returns:
        The gradient, of theta's shape.
    """
    theta = theta.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(theta).sum(), theta)
    return gradient
