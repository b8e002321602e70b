"""Steps of descent: their sizes, maps of their gradients, and a pull back to their start."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

Size = float | Tensor
"""A step size: one number, or a tensor ``(...,)`` with a number for each network of a stack."""


class Sizes(NamedTuple):
    """Step sizes of the parts of a network: one for each layer or one for each parameter."""

    values: Tensor
    """``(step, ..., layer)`` or ``(step, ..., P)``. A first axis of length 1 serves all steps."""
    limit: float = inf
    """Before a step, each number of a gradient is clipped to [-limit, limit]."""

    def times(self, factor: float) -> Sizes:
        """Return the step sizes times a factor; the limit stays."""
        return self._replace(values=factor * self.values)


class Maps(NamedTuple):
    """Maps of the gradient of each layer before a step (`metabench.learning.maps`)."""

    values: Tensor
    """A_1, B_1, A_2, ..., ``(..., maps)``."""
    size: float
    """The step size."""


class Pulled(NamedTuple):
    """Steps on the loss plus strength / 2 times the squared distance from where they began."""

    size: Size
    """The step size."""
    strength: float
    """Weight of the squared distance."""


StepSize = Size | Sizes | Maps | Pulled

Descent = tuple[Tensor, Tensor, StepSize]
"""Steps of descent: x and y of each step, ``(step, ..., point, .)``, and the step size."""


class Weights(NamedTuple):
    """Weights of the losses after each step of a descent."""

    earlier: float
    """Of each loss before the last."""
    last: float


LAST = Weights(0.0, 1.0)
"""The loss after the last step alone."""


def clipped(gradient: Tensor, step_size: StepSize) -> Tensor:
    """Return a gradient as a step uses it: clipped if the step sizes have a limit."""
    if isinstance(step_size, Sizes) and step_size.limit < inf:
        return gradient.clamp(-step_size.limit, step_size.limit)
    return gradient


def pulled(gradient: Tensor, phi: Tensor, start: Tensor, step_size: StepSize) -> Tensor:
    """Return a gradient ``(..., P)`` with that of the squared distance, if steps are pulled."""
    if isinstance(step_size, Pulled):
        return gradient.add(phi - start, alpha=step_size.strength)
    return gradient


def descended(theta: Tensor, gradient: Tensor, step_size: Size) -> Tensor:
    """Return theta - step_size * gradient, ``(..., P)``, in one pass over memory."""
    if isinstance(step_size, Tensor):
        return torch.addcmul(theta, gradient, step_size[..., None], value=-1)
    return torch.sub(theta, gradient, alpha=step_size)
