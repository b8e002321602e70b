"""A mixture of two kinds of tasks, sine waves and straight lines. A learner is not told which.

    y = A sin(x + phase)   or   y = a x + b

Reference: the mixture of Finn, Xu, Levine 2018, arXiv:1806.02817, section 6, without its noise (see
    `noise`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from metabench.learning.fields import Interval
from metabench.learning.tasks.distribution import TaskDistribution, scale
from metabench.learning.tasks.sine import Sine


@dataclass(frozen=True)
class SineOrLine:
    """A stack of waves and lines, float64.

    Args:
        line: 1 where the task is a line and 0 where it is a wave, ``(..., task)``.
        amplitude: Amplitude of the wave, ``(..., task)``.
        phase: Phase of the wave, radians, ``(..., task)``.
        slope: Slope of the line, ``(..., task)``.
        intercept: Intercept of the line, ``(..., task)``.
    """

    line: Tensor
    amplitude: Tensor
    phase: Tensor
    slope: Tensor
    intercept: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return y at x ``(..., task, point, feature)``, of the same shape."""
        line = self.slope[..., None, None] * x + self.intercept[..., None, None]
        return torch.where(
            self.line[..., None, None] > 0, line, Sine(self.amplitude, self.phase)(x)
        )


class SineOrLineDistribution(TaskDistribution):
    """The distribution of waves and lines.

    Args:
        lines: Probability that a task is a line.
        amplitude: Interval of the amplitude of waves.
        phase: Interval of the phase of waves, radians.
        slope: Interval of the slope of lines.
        intercept: Interval of the intercept of lines.
    """

    family: Literal["sine-or-line"] = "sine-or-line"
    lines: Annotated[float, Field(ge=0, le=1)] = 0.5
    amplitude: Interval = (0.1, 5.0)
    phase: Interval = (0.0, 2 * np.pi)
    slope: Interval = (-3.0, 3.0)
    intercept: Interval = (-3.0, 3.0)

    @property
    def width(self) -> int:
        """The kind, and the parameters of both kinds, so that waves and lines use equally many."""
        return 5

    def draw(self, unit: Tensor) -> SineOrLine:
        """Map uniform numbers ``(..., task, width)`` on [0, 1) to tasks ``(..., task)``."""
        intervals = (self.amplitude, self.phase, self.slope, self.intercept)
        parameters = (scale(unit[..., 1 + n], interval) for n, interval in enumerate(intervals))
        return SineOrLine((unit[..., 0] < self.lines).double(), *parameters)

    def one(  # type: ignore[override]
        self,
        *,
        line: float = 0.0,
        amplitude: float = 0.0,
        phase: float = 0.0,
        slope: float = 0.0,
        intercept: float = 0.0,
    ) -> SineOrLine:
        """Return one task, ``()``."""
        values = (line, amplitude, phase, slope, intercept)
        return SineOrLine(*(torch.tensor(value, dtype=torch.float64) for value in values))

    def basis(self, x: Tensor) -> list[Tensor] | None:
        """Return sin x, cos x, x and 1, which span waves and lines."""
        return [torch.sin(x), torch.cos(x), x, torch.ones_like(x)]
