"""Linear algebra on stacks, whose bits for one matrix do not depend on the rest of the stack.

torch passes a batch of one to a different matrix product, which rounds differently, so `product`
avoids such a batch. Cholesky factors need no such care: torch computes one matrix at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix products of a ``(..., n, m)`` and b ``(..., m, k)``.

    The leading axes broadcast.
    """
    stack = a.shape[:-2]
    if stack == b.shape[:-2] and len(stack) == 1 and len(a) > 1:  # the common case, without views
        return torch.bmm(a, b)
    if stack != b.shape[:-2]:
        stack = torch.broadcast_shapes(stack, b.shape[:-2])
    flat = [t.expand(*stack, *t.shape[-2:]).reshape(-1, *t.shape[-2:]) for t in (a, b)]
    if stack.numel() == 1:  # compute a single product twice
        found = torch.bmm(*(t.expand(2, -1, -1) for t in flat))[:1]
    else:
        found = torch.bmm(*flat)
    return found.reshape(*stack, a.shape[-2], b.shape[-1])


def solve(a: Tensor, b: Tensor) -> Tensor:
    """Return the solutions of positive definite systems a ``(..., n, n)`` for b ``(..., n, k)``.

    If a is not positive definite, as in a diverged run, the solutions are meaningless or nan. No
    error is raised, since one run must not stop its neighbours.
    """
    return torch.cholesky_solve(b, factor(a))


def factor(a: Tensor) -> Tensor:
    """Return the lower Cholesky factors of symmetric matrices ``(..., n, n)``; see `solve`."""
    return torch.linalg.cholesky_ex(a).L


def factor_or_nan(a: Tensor) -> Tensor:
    """Return the factors of `factor`, nan where a matrix is not positive definite."""
    found = torch.linalg.cholesky_ex(a)
    return found.L.where((found.info == 0)[..., None, None], torch.nan)
