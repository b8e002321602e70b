"""Sine waves, the tasks of the Flux script and of the literature.

    y = A sin(f x +- phase),   A ~ U(amplitude),   phase ~ U(phase),   f ~ U(frequency), or 1

References: Finn et al. 2017, arXiv:1703.03400, section 5.1; with a frequency, Li et al. 2017,
    arXiv:1707.09835.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from metabench.learning.fields import Interval
from metabench.learning.tasks.distribution import TaskDistribution, scale


@dataclass(frozen=True)
class Sine:
    """A stack of waves, float64.

    Args:
        amplitude: ``(..., task)``.
        phase: ``(..., task)``, radians, including its sign.
        frequency: ``(..., task)``, radians per unit of x; None means 1.
    """

    amplitude: Tensor
    phase: Tensor
    frequency: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return y = A sin(f x + phase) at x ``(..., task, point, feature)``, of the same shape."""
        turns = x if self.frequency is None else x * self.frequency[..., None, None]
        return (turns + self.phase[..., None, None]).sin_().mul_(self.amplitude[..., None, None])


class SineDistribution(TaskDistribution):
    """The distribution of waves.

    Args:
        amplitude: Interval of the amplitude.
        phase: Interval of the phase, radians.
        sign: Whether the phase is added to x, or subtracted as in the MAML paper.
        frequency: Interval of the frequency; 1 by default.
    """

    family: Literal["sine"] = "sine"
    amplitude: Interval = (0.1, 5.0)
    phase: Interval = (0.0, 2 * np.pi)
    sign: Literal["plus", "minus"] = "plus"
    frequency: Interval | None = None

    @property
    def width(self) -> int:
        """Amplitude and phase, and the frequency if it varies."""
        return 2 if self.frequency is None else 3

    def draw(self, unit: Tensor) -> Sine:
        """Map uniform numbers ``(..., task, width)`` on [0, 1) to waves ``(..., task)``."""
        amplitude, phase = scale(unit[..., 0], self.amplitude), scale(unit[..., 1], self.phase)
        frequency = None if self.frequency is None else scale(unit[..., 2], self.frequency)
        return Sine(amplitude, phase if self.sign == "plus" else -phase, frequency)

    def one(self, *, amplitude: float, phase: float, frequency: float = 1.0) -> Sine:  # type: ignore[override]
        """Return one wave, ``()``."""
        return Sine(
            *(torch.tensor(value, dtype=torch.float64) for value in (amplitude, phase, frequency))
        )

    @property
    def period(self) -> float | None:
        """2 pi if the frequency is 1; otherwise tasks have no common period."""
        return 2 * np.pi if self.frequency is None else None

    def basis(self, x: Tensor) -> list[Tensor] | None:
        """Return sin x and cos x, which span all waves of frequency 1."""
        return [torch.sin(x), torch.cos(x)] if self.frequency is None else None
