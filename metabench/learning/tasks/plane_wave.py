"""Waves over a plane: the sine tasks with two inputs.

    y = A sin(x_1 cos(direction) + x_2 sin(direction) + phase)

A ~ U(amplitude), phase ~ U(phase), direction ~ U(direction). Along its direction a task is a sine
of frequency 1. So a learner has one more unknown to find than with one input.

Reference: none; with one input, tasks are those of Finn et al. 2017, arXiv:1703.03400, section 5.1.
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


@dataclass(frozen=True)
class PlaneWave:
    """A stack of waves, float64.

    Args:
        amplitude: ``(..., task)``.
        phase: ``(..., task)``, radians.
        direction: Direction of steepest change, ``(..., task)``, radians from the first axis.
    """

    amplitude: Tensor
    phase: Tensor
    direction: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return y ``(..., task, point, 1)`` at x ``(..., task, point, 2)``."""
        towards = torch.stack([self.direction.cos(), self.direction.sin()], dim=-1)
        along = (x * towards[..., None, :]).sum(-1, keepdim=True)
        return (along + self.phase[..., None, None]).sin() * self.amplitude[..., None, None]


class PlaneWaveDistribution(TaskDistribution):
    """The distribution of waves over a plane.

    Args:
        grid_points: Number of points of the query grid in each of the two inputs.
        amplitude: Interval of the amplitude.
        phase: Interval of the phase, radians.
        direction: Interval of the direction, radians.
    """

    family: Literal["plane-wave"] = "plane-wave"
    grid_points: Annotated[int, Field(ge=2, le=100)] = 10
    amplitude: Interval = (0.1, 5.0)
    phase: Interval = (0.0, 2 * np.pi)
    direction: Interval = (0.0, np.pi)

    @property
    def features(self) -> int:
        """Two features."""
        return 2

    @property
    def width(self) -> int:
        """Amplitude, phase and direction."""
        return 3

    def draw(self, unit: Tensor) -> PlaneWave:
        """Map uniform numbers ``(..., task, width)`` on [0, 1) to waves ``(..., task)``."""
        intervals = (self.amplitude, self.phase, self.direction)
        return PlaneWave(*(scale(unit[..., n], interval) for n, interval in enumerate(intervals)))

    def one(  # type: ignore[override]
        self, *, amplitude: float, phase: float, direction: float = 0.5
    ) -> PlaneWave:
        """Return one wave, ``()``."""
        values = (amplitude, phase, direction)
        return PlaneWave(*(torch.tensor(value, dtype=torch.float64) for value in values))
