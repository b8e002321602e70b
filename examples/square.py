"""Square waves: tasks with jumps, which no smooth function fits everywhere.

    y = A sign(sin(x + phase)),   A ~ U(amplitude),   phase ~ U(phase)

Reference: none; an example of a task family.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from metabench import Interval, TaskDistribution, scale


@dataclass(frozen=True)
class Square:
    """A stack of square waves, float64: amplitude and phase ``(..., task)``."""

    amplitude: Tensor
    phase: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return y at x ``(..., task, point, feature)``, of the same shape."""
        return self.amplitude[..., None, None] * torch.sign(
            torch.sin(x + self.phase[..., None, None])
        )


class SquareDistribution(TaskDistribution):
    """The distribution of square waves.

    Args:
        amplitude: Interval of the amplitude.
        phase: Interval of the phase, radians.
    """

    family: Literal["square"] = "square"
    amplitude: Interval = (0.1, 5.0)
    phase: Interval = (0.0, 2 * np.pi)

    @property
    def width(self) -> int:
        """Amplitude and phase."""
        return 2

    def draw(self, unit: Tensor) -> Square:
        """Map uniform numbers ``(..., task, width)`` on [0, 1) to square waves ``(..., task)``."""
        return Square(scale(unit[..., 0], self.amplitude), scale(unit[..., 1], self.phase))

    def one(self, *, amplitude: float, phase: float) -> Square:
        """Return one square wave, ``()``."""
        return Square(*(torch.tensor(value, dtype=torch.float64) for value in (amplitude, phase)))
