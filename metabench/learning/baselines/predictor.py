"""The interface of a baseline after it has learned."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from metabench.learning.tasks import Points

Predictor = Callable[[Points, Tensor], Tensor]
"""Function from support points and query points to predictions."""
