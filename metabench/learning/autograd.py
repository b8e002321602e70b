"""Gradients by autograd, for algorithms that have no gradient by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_of(objective: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    """Return the gradient of a sum of losses with respect to theta, by autograd.

    Args:
        objective: From theta to losses of any shape, which are added up.
        theta: ``(..., M)``. Not changed.

    Returns:
        Of theta's shape.
    """
    theta = theta.detach().requires_grad_()
    (found,) = torch.autograd.grad(objective(theta).sum(), theta)
    return found
