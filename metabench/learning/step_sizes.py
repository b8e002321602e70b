"""Sizes of gradient steps: of networks, and of their layers or parameters."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

Size = float | Tensor
"""A step size: one number, or a tensor ``(...,)`` with one for each network of a stack."""


class Sizes(NamedTuple):
    """Step sizes of the parts of a network, one for each of its layers or of its parameters."""

    values: Tensor
    """``(step, ..., layer)`` or ``(step, ..., P)``; a first axis of one says the same for each step."""
    limit: float = inf
    """What each number of a gradient is cut at before a step, in both directions."""

    def times(self, factor: float) -> Sizes:
        """Return a multiple of each."""
        return self._replace(values=factor * self.values)


Descent = tuple[Tensor, Tensor, Size | Sizes]
"""Steps of descent: x and y of each, ``(step, ..., point, .)``, and their size."""


def clipped(gradient: Tensor, step_size: Size | Sizes) -> Tensor:
    """Return a gradient as a step goes against it: where sizes say so, cut."""
    if isinstance(step_size, Sizes) and step_size.limit < inf:
        return gradient.clamp(-step_size.limit, step_size.limit)
    return gradient


def descended(theta: Tensor, gradient: Tensor, step_size: Size) -> Tensor:
    """Return theta - step_size * gradient, ``(..., P)``, in one pass over memory."""
    if isinstance(step_size, Tensor):
        return torch.addcmul(theta, gradient, step_size[..., None], value=-1)
    return torch.sub(theta, gradient, alpha=step_size)
