"""The baselines that neither learn from training tasks nor select anything."""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.learning.tasks import Points, TaskDistribution


def zero(support: Points, x: Tensor) -> Tensor:
    """Predict zero everywhere."""
    return x.new_zeros(len(support.x), x.shape[-2], 1)


def least_squares(tasks: TaskDistribution, support: Points, x: Tensor) -> Tensor:
    """Fit the basis of the family to the support points, and predict with it.

        y = a sin x + b cos x

    The fit is by modified Gram-Schmidt. The bits of LAPACK's solver depend on the address of its
    workspace; those of sums over a fixed axis do not.
    """
    basis, orthogonal = tasks.basis(support.x), list[Tensor]()
    assert basis is not None  # otherwise `names` does not list the baseline
    for function in basis:
        for q in orthogonal:
            function = function - _dot(q, function) / _dot(q, q) * q
        orthogonal.append(function)
    y, prediction = support.y, torch.zeros(())
    for q, function, at_x in reversed(
        list(zip(orthogonal, basis, tasks.basis(x) or [], strict=True))
    ):
        coefficient = _dot(q, y) / _dot(q, q)
        y, prediction = y - coefficient * function, prediction + coefficient * at_x
    return prediction


def _dot(u: Tensor, v: Tensor) -> Tensor:
    """Return inner products over points, ``(task, 1, 1)``."""
    return (u * v).sum(-2, keepdim=True)
