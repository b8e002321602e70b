"""The interface of a baseline after it has learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metabench.learning.predictive import Predictive
from metabench.learning.tasks import Points

Posterior = Callable[[Points, Tensor], Predictive]
"""Function from support points and query points to distributions of labels."""


def certain(predict: Callable[[Points, Tensor], Tensor]) -> Posterior:
    """Return the posterior of a function that only predicts: its variance is 0."""

    def posterior(support: Points, x: Tensor) -> Predictive:
        mean = predict(support, x)
        return Predictive(mean, torch.zeros_like(mean))

    return posterior
