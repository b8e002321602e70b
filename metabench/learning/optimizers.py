"""How a gradient moves parameters, by plain descent or Adam, and schedules of the step size.

    descent   theta <- theta - size * g
    Adam      m <- beta1 m + (1 - beta1) g,   v <- beta2 v + (1 - beta2) g^2
              theta <- theta - size * m^ / (sqrt(v^) + eps)

Elementwise, so that a run cannot notice its neighbours. What an optimizer remembers is a tensor
``(moment, ..., P)``.

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
    """A rule for one step."""

    @property
    @abstractmethod
    def moments(self) -> int:
        """How many tensors like theta it remembers."""

    @abstractmethod
    def direction(self, gradient: Tensor, memory: Tensor, done: int) -> tuple[Tensor, Tensor]:
        """Return what a step goes against, and what to remember.

        Args:
            gradient: ``(..., P)``. Not changed.
            memory: ``(moment, ..., P)``, zeros at the beginning. Not changed.
            done: Steps taken before.
        """

    def step(
        self, theta: Tensor, gradient: Tensor, memory: Tensor, size: Size, done: int
    ) -> tuple[Tensor, Tensor]:
        """Return theta after a step, and what to remember.

        Args:
            theta: ``(..., P)``. Not changed.
            gradient: As in `direction`, and so are memory and done.
            memory: What to remember.
            size: Of the step.
            done: Steps taken before.
        """
        against, memory = self.direction(gradient, memory, done)
        return descended(theta, against, size), memory


@dataclass(frozen=True)
class Descent(Optimizer):
    """Plain gradient descent."""

    @property
    def moments(self) -> int:
        """None."""
        return 0

    def direction(self, gradient: Tensor, memory: Tensor, done: int) -> tuple[Tensor, Tensor]:
        """Return the gradient; see `Optimizer`."""
        return gradient, memory


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam with bias correction; with beta1 = 0 it remembers the squares alone.

    Args:
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
    """

    beta1: float = 0.9
    beta2: float = 0.999

    @property
    def moments(self) -> int:
        """Both, or the second alone."""
        return 2 if self.beta1 else 1

    def direction(self, gradient: Tensor, memory: Tensor, done: int) -> tuple[Tensor, Tensor]:
        """Return m^ / (sqrt(v^) + eps); see `Optimizer`."""
        *first, v = memory
        v = (self.beta2 * v).addcmul_(gradient, gradient, value=1 - self.beta2)
        m = (self.beta1 * first[0]).add_(gradient, alpha=1 - self.beta1) if first else gradient
        root = v.sqrt().div_(sqrt(1 - self.beta2 ** (done + 1))).add_(EPSILON)
        against = m.div(root).div_(1 - self.beta1 ** (done + 1))
        return against, torch.stack([m, v] if first else [v])

    def step(
        self, theta: Tensor, gradient: Tensor, memory: Tensor, size: Size, done: int
    ) -> tuple[Tensor, Tensor]:
        """Return theta after a step, and what to remember; see `Optimizer`."""
        if self.beta1 and isinstance(size, float) and update.covers(theta, gradient, memory):
            decays = self.beta1, self.beta2
            return update.adam(theta, gradient, memory, size, decays, EPSILON, done)
        return super().step(theta, gradient, memory, size, done)


OPTIMIZERS: dict[str, Optimizer] = {"sgd": Descent(), "adam": Adam()}
"""Of the outer loop."""

INNER_OPTIMIZERS: dict[str, Optimizer] = {"sgd": Descent(), "adam": Adam(beta1=0.0)}
"""Of the inner loop. Adam has no first moment there (Nichol et al. 2018, section 6) and starts
afresh on each task.

The authors' code differs: it restores trainable variables only, so that Adam's second moment and
step count carry over from task to task.
"""

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + cos(pi * done)) / 2,
}
"""Factor of the outer step size after a share of training: Nichol et al. decay it linearly, MAML++
by a cosine.
"""
