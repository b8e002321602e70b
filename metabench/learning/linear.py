"""Linear algebra on stacks whose bits do not depend on the stack, and gradients by autograd.

torch gives a batch of one to another matrix product, and its solver rounds differently in other
batches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix products of a ``(..., n, m)`` and b ``(..., m, k)``.

    Their leading axes broadcast.
    """
    stack = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (t.expand(*stack, *t.shape[-2:]).reshape(-1, *t.shape[-2:]).contiguous() for t in (a, b))
    twice = (t.repeat(2, 1, 1) for t in (a, b)) if len(a) == 1 else (a, b)
    return torch.bmm(*twice)[: stack.numel()].reshape(*stack, a.shape[-2], b.shape[-1])


def solve(a: Tensor, b: Tensor) -> Tensor:
    """Return the solutions of positive definite systems a ``(..., n, n)`` for b ``(..., n, k)``.

    The systems are symmetric.

    The inverse is computed aside, by Gauss and Jordan; a step of iterative refinement makes the
    solution exact, and is what autograd differentiates: da gives -a^-1 da a^-1 b.
    """
    inverse = _inverse(a.detach())
    found = product(inverse, b)
    return found + product(inverse, b - product(a, found))


def _inverse(a: Tensor) -> Tensor:
    """Return the inverses of positive definite matrices ``(..., n, n)``.

    No rows need to be exchanged.
    """
    n = a.shape[-1]
    both = torch.cat([a, torch.eye(n, dtype=a.dtype).expand_as(a)], dim=-1)
    for k in range(n):
        pivot = both[..., k : k + 1, :] / both[..., k : k + 1, k : k + 1]
        both = both - both[..., k : k + 1] * pivot
        both[..., k, :] = pivot[..., 0, :]
    return both[..., n:]


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
