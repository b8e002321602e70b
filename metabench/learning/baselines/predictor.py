"""What a baseline is, once it knows what it may know."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from metabench.learning.tasks import Points

Predictor = Callable[[Points, Tensor], Tensor]
"""From support points and query inputs to predictions."""
