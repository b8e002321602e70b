"""The baselines that learn nothing from training tasks and choose nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.learning.tasks import Points, TaskDistribution


def zero(support: Points, x: Tensor) -> Tensor:
    """Predict zero everywhere."""
    return x.new_zeros(len(support.x), x.shape[-2], 1)


def least_squares(tasks: TaskDistribution, support: Points, x: Tensor) -> Tensor:
    """Fit the family's basis to the support points, by Gram-Schmidt, and predict with it.

        y = a sin x + b cos x

    LAPACK's solver gives bits that vary with where its work space lies; sums over a fixed axis do
    not.
    """
    basis, rest = tasks.basis(support.x), list[Tensor]()
    assert basis is not None  # `names`
    for function in basis:
        for q in rest:
            function = function - _dot(q, function) / _dot(q, q) * q
        rest.append(function)
    y, prediction = support.y, torch.zeros(())
    for q, function, at_x in reversed(list(zip(rest, basis, tasks.basis(x) or [], strict=True))):
        coefficient = _dot(q, y) / _dot(q, q)
        y, prediction = y - coefficient * function, prediction + coefficient * at_x
    return prediction


def _dot(u: Tensor, v: Tensor) -> Tensor:
    """Return inner products over points, ``(task, 1, 1)``."""
    return (u * v).sum(-2, keepdim=True)
