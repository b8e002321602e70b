"""Functions of several modes, which differ in their formula. A learner is not told the mode.

    y = scale g(x - center) + bias

    mode             g(z)    scale                center              bias
    0  sine          sin z   amplitude            phase               0
    1  line          z       slope                0                   intercept
    2  quadratic     z^2     +- curvature         center              bias
    3  tanh          tanh z  slope                center              bias
    4  absolute      |z|     slope                center              bias

Each parameter is uniform on its interval; the sign of the curvature is a fair coin. The first 2, 3
or all 5 modes are equally likely.

Reference: Vuorio, Sun, Hu, Lim 2019, arXiv:1910.13616 (MMAML), section 5.1, with the intervals of
    the authors' code, https://github.com/vuoristo/MMAML-Regression, and without its noise (see
    `noise`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from metabench.learning.fields import Interval
from metabench.learning.tasks.distribution import TaskDistribution, scale

SHAPES: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.sin,
    torch.clone,
    torch.square,
    torch.tanh,
    torch.abs,
)
"""The function g of each mode."""


@dataclass(frozen=True)
class Multimodal:
    """A stack of functions, float64.

    Args:
        mode: Index of the mode, ``(..., task)``.
        scale: Factor of y, ``(..., task)``.
        center: Shift along x, ``(..., task)``.
        bias: Shift along y, ``(..., task)``.
    """

    mode: Tensor
    scale: Tensor
    center: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return y at x ``(..., task, point, feature)``, of the same shape."""
        mode, z = self.mode[..., None, None], x - self.center[..., None, None]
        shape = torch.zeros_like(z)
        for index, function in enumerate(SHAPES):
            shape = torch.where(mode == index, function(z), shape)
        return self.scale[..., None, None] * shape + self.bias[..., None, None]


class MultimodalDistribution(TaskDistribution):
    """The distribution of functions of several modes.

    Args:
        modes: Number of modes.
        amplitude: Interval of the amplitude of sines.
        phase: Interval of the phase of sines, radians, which is subtracted from x.
        slope: Interval of the slope of lines, and of the scale of tanh and absolute values.
        intercept: Interval of the intercept of lines.
        curvature: Interval of the size of the scale of quadratic functions.
        center: Interval of the center of the last three modes.
        bias: Interval of the bias of the last three modes.
    """

    family: Literal["multimodal"] = "multimodal"
    modes: Literal[2, 3, 5] = 5
    amplitude: Interval = (0.1, 5.0)
    phase: Interval = (0.0, np.pi)
    slope: Interval = (-3.0, 3.0)
    intercept: Interval = (-3.0, 3.0)
    curvature: Interval = (0.02, 0.15)
    center: Interval = (-3.0, 3.0)
    bias: Interval = (-3.0, 3.0)

    @property
    def width(self) -> int:
        """The mode, and a number for each parameter, of which no mode has more than three."""
        return 4

    def draw(self, unit: Tensor) -> Multimodal:
        """Map uniform numbers ``(..., task, width)`` on [0, 1) to functions ``(..., task)``."""
        first, second, third, fourth = unit.unbind(-1)
        mode, zero = (first * self.modes).floor(), torch.zeros_like(first)
        slope, center = scale(second, self.slope), scale(third, self.center)
        bias = scale(fourth, self.bias)
        amplitude, curvature = scale(second, self.amplitude), _signed(second, self.curvature)
        phase, intercept = scale(third, self.phase), scale(fourth, self.intercept)
        return Multimodal(
            mode,
            _of_mode(mode, amplitude, slope, curvature, slope, slope),
            _of_mode(mode, phase, zero, center, center, center),
            _of_mode(mode, zero, intercept, bias, bias, bias),
        )

    def one(  # type: ignore[override]
        self, *, mode: float, scale: float, center: float = 0.0, bias: float = 0.0
    ) -> Multimodal:
        """Return one function, ``()``.

        Raises:
            ValueError: There is no such mode.
        """
        if mode not in range(len(SHAPES)):
            raise ValueError(f"mode must be a whole number from 0 to 4, got {mode:g}")
        values = (mode, scale, center, bias)
        return Multimodal(*(torch.tensor(value, dtype=torch.float64) for value in values))


def _of_mode(mode: Tensor, *values: Tensor) -> Tensor:
    """Return, of one value for each mode, that of each task's mode, ``(..., task)``."""
    return torch.stack(values, dim=-1).gather(-1, mode.long()[..., None])[..., 0]


def _signed(unit: Tensor, interval: Interval) -> Tensor:
    """Map uniform numbers on [0, 1) to an interval and its mirror image below zero."""
    # Half of the numbers give the sign, and each half covers the whole interval.
    size = scale((2 * unit) % 1, interval)
    return torch.where(unit < 0.5, -size, size)
