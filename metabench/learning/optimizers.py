"""Optimizers, which are plain descent and Adam, and schedules of the step size.

    descent   theta <- theta - size * g
    Adam      m <- beta1 m + (1 - beta1) g,   v <- beta2 v + (1 - beta2) g^2
              theta <- theta - size * m^ / (sqrt(v^) + eps)

Both are elementwise, so a run cannot depend on its neighbours. The memory of an optimizer is its
moments, a tensor ``(moment, ..., P)``.

Reference: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1: m^ = m / (1 - beta1^t), v^ = v / (1 -
    beta2^t).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sqrt

import torch
from torch import Tensor

from metabench.learning.engine import update
from metabench.learning.step_sizes import Size, descended

EPSILON = 1e-8


class Optimizer(ABC):
    """A rule for one step, without state of its own."""

    @property
    @abstractmethod
    def moments(self) -> int:
        """Number of moments, tensors like theta, that the optimizer keeps."""

    @abstractmethod
    def direction(self, gradient: Tensor, memory: Tensor, done: int) -> tuple[Tensor, Tensor]:
        """Return the direction that a step subtracts, and the new memory.

        Args:
            gradient: ``(..., P)``. Not changed.
            memory: ``(moment, ..., P)``, zeros before the first step. Not changed.
            done: Number of earlier steps.
        """

    def step(
        self, theta: Tensor, gradient: Tensor, memory: Tensor, size: Size, done: int
    ) -> tuple[Tensor, Tensor]:
        """Return theta after a step, and the new memory.

        Args:
            theta: ``(..., P)``. Not changed.
            gradient: As in `direction`.
            memory: As in `direction`.
            size: Step size.
            done: Number of earlier steps.
        """
        direction, memory = self.direction(gradient, memory, done)
        return descended(theta, direction, size), memory


@dataclass(frozen=True)
class Descent(Optimizer):
    """Plain gradient descent."""

    @property
    def moments(self) -> int:
        """No moments."""
        return 0

    def direction(self, gradient: Tensor, memory: Tensor, done: int) -> tuple[Tensor, Tensor]:
        """Return the gradient; see `Optimizer`."""
        return gradient, memory


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam with bias correction. With beta1 = 0 it keeps only the second moment.

    Args:
        beta1: Decay rate of the first moment.
        beta2: Decay rate of the second moment.
    """

    beta1: float = 0.9
    beta2: float = 0.999

    @property
    def moments(self) -> int:
        """Both moments, or only the second."""
        return 2 if self.beta1 else 1

    def direction(self, gradient: Tensor, memory: Tensor, done: int) -> tuple[Tensor, Tensor]:
        """Return m^ / (sqrt(v^) + eps); see `Optimizer`."""
        *first, v = memory
        v = (self.beta2 * v).addcmul_(gradient, gradient, value=1 - self.beta2)
        m = (self.beta1 * first[0]).add_(gradient, alpha=1 - self.beta1) if first else gradient
        # Epsilon is added after the correction of v, as in the paper: before it, the first steps
        # would have an epsilon up to 1 / sqrt(1 - beta2), about 30, times as large.
        root = v.sqrt().div_(sqrt(1 - self.beta2 ** (done + 1))).add_(EPSILON)
        direction = m.div(root)
        if not first:
            return direction, v[None]
        return direction.div_(1 - self.beta1 ** (done + 1)), torch.stack([m, v])

    def step(
        self, theta: Tensor, gradient: Tensor, memory: Tensor, size: Size, done: int
    ) -> tuple[Tensor, Tensor]:
        """Return theta after a step, and the new memory; see `Optimizer`."""
        if self.beta1 and isinstance(size, float) and update.covers(theta, gradient, memory):
            decays = self.beta1, self.beta2
            return update.adam(theta, gradient, memory, size, decays, EPSILON, done)
        return super().step(theta, gradient, memory, size, done)


OPTIMIZERS: dict[str, Optimizer] = {"sgd": Descent(), "adam": Adam()}
"""The optimizers of the outer loop."""

INNER_OPTIMIZERS: dict[str, Optimizer] = {"sgd": Descent(), "adam": Adam(beta1=0.0)}
"""The optimizers of the inner loop. Adam has no first moment there (Nichol et al. 2018, section 6)
and restarts on each task.

The authors' code differs: it resets only the trainable variables, so Adam's second moment and step
count carry over from task to task.
"""

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + cos(pi * done)) / 2,
}
"""The factor of the outer step size, given the completed fraction of training. Nichol et al. decay
it linearly, MAML++ by a cosine.
"""
