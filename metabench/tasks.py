"""Sine waves: one task, the distribution of tasks, and the banks of held-out tasks.

    y = A sin(x + phase),   A ~ U(amplitude),   phase ~ U(phase),   no noise

Axis order everywhere: ``(update, run, task, point, feature)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metabench.randomness import BLOCK, permutations, uniforms

Interval = tuple[float, float]


@dataclass(frozen=True)
class Sine:
    """A stack of waves, float64.

    Args:
        amplitude: ``(..., task)``.
        phase: ``(..., task)``, radians.
    """

    amplitude: Tensor
    phase: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return y = A sin(x + phase) at x ``(..., task, point, feature)``, of the same shape."""
        return (x + self.phase[..., None, None]).sin_().mul_(self.amplitude[..., None, None])


@dataclass(frozen=True)
class SineDistribution:
    """The distribution of waves, and where they are looked at.

    Args:
        amplitude: Least and largest amplitude.
        phase: Least and largest phase, radians.
        domain: Least and largest x.
        grid_points: Points of the query grid, evenly spaced on the domain, both ends included.
    """

    amplitude: Interval = (0.1, 5.0)
    phase: Interval = (0.0, 2 * np.pi)
    domain: Interval = (-5.0, 5.0)
    grid_points: int = 50

    @property
    def grid(self) -> Tensor:
        """The query grid, ``(point, feature)``, float64."""
        return torch.linspace(*self.domain, self.grid_points, dtype=torch.float64)[:, None]

    def waves(self, unit: Tensor) -> Sine:
        """Map uniform numbers ``(..., task, 2)`` on [0, 1) to waves ``(..., task)``."""
        return Sine(scale(unit[..., 0], self.amplitude), scale(unit[..., 1], self.phase))


def scale(unit: Tensor, interval: Interval) -> Tensor:
    """Map uniform numbers on [0, 1) to an interval."""
    low, high = interval
    return low + (high - low) * unit


@dataclass(frozen=True)
class TaskStream:
    """The endless sequence of training tasks of each seed, the same for every algorithm and cell.

    Task n of a seed has its wave, its fresh points and its shuffle at an address of its own; meta-iteration i uses the
    tasks T i .. T i + T - 1. So algorithms with other meta-batches walk the same sequence at another pace.

    Args:
        distribution: The distribution of tasks.
        seeds: One seed a run.
        meta_batch_size: T, tasks of a meta-iteration.
    """

    distribution: SineDistribution
    seeds: tuple[int, ...]
    meta_batch_size: int

    def waves(self, block: int) -> Sine:
        """Return the waves of `BLOCK` meta-iterations, ``(iteration, run, task)``."""
        return self.distribution.waves(self._uniforms("train-task", block, 2))

    def points(self, block: int, shots: int) -> Tensor:
        """Return fresh points of each task, uniform on the domain, ``(iteration, run, task, shots, feature)``."""
        return scale(self._uniforms("train-support", block, shots), self.distribution.domain)[..., None]

    def shuffles(self, block: int) -> Tensor:
        """Return a random order of the query grid for each task, ``(iteration, run, task, grid_points)``, integers."""
        length = self.distribution.grid_points
        return self._by_iteration(block, lambda seed, b: permutations(seed, "train-shuffle", b, BLOCK, length))

    def _uniforms(self, purpose: str, block: int, width: int) -> Tensor:
        return self._by_iteration(
            block, lambda seed, b: uniforms(seed, purpose, b, BLOCK * width).reshape(BLOCK, width)
        )

    def _by_iteration(self, block: int, draw: Callable[[int, int], NDArray[Any]]) -> Tensor:
        """Draw the T stream blocks that `BLOCK` meta-iterations use, and put the iteration first and the run second."""
        size = self.meta_batch_size
        blocks = range(block * size, (block + 1) * size)
        draws = np.stack([np.concatenate([draw(seed, b) for b in blocks]) for seed in self.seeds])
        return torch.from_numpy(draws).unflatten(1, (BLOCK, size)).transpose(0, 1).contiguous()


@dataclass(frozen=True)
class Bank:
    """A fixed list of held-out tasks, the same for every cell and seed of a study.

    Args:
        study: Name of the study: the key of the stream.
        purpose: ``validation-bank`` (choose on it) or ``test-bank`` (report on it).
        distribution: The distribution of tasks.
        tasks: How many tasks. A larger bank begins with the tasks of a smaller one.
    """

    study: str
    purpose: str
    distribution: SineDistribution
    tasks: int

    def waves(self) -> Sine:
        """Return the waves, ``(task,)``."""
        unit = uniforms(self.study, self.purpose, 0, 2 * self.tasks).reshape(self.tasks, 2)
        return self.distribution.waves(torch.from_numpy(unit))

    def support(self, shots: int, interval: Interval) -> Tensor:
        """Return each task's support points, uniform on an interval, ``(task, shots, feature)``.

        More shots begin with the points of fewer, and protocols share their draws up to scale.
        """
        unit = [uniforms(self.study, self.purpose, 1 + k, self.tasks) for k in range(shots)]
        return scale(torch.from_numpy(np.stack(unit, axis=-1)), interval)[..., None]
