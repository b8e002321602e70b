"""Families of recorded data: each row of a table that the package ships is a task.

    y = f(x),    f interpolates the samples of a row linearly in each coordinate of x

Samples are evenly spaced from -5 to 5 in each coordinate, and f is constant beyond them. So fresh
points may lie anywhere, as on a wave.

Of the rows, in the order of the table, the first half are training tasks; validation banks draw
from the next quarter and test banks from the last. So no held-out task has been trained on, and
none has been used for both selection and results. Tasks are drawn with replacement: a bank with
more tasks than rows has rows several times, with different support points.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metabench.learning.fields import Interval
from metabench.learning.tasks.distribution import Task, TaskDistribution

FOLDER = Path(__file__).parent

EXTENT: Interval = (-5.0, 5.0)
"""The coordinates of the first and the last sample."""

QUARTERS = {"training": (0, 2), "validation-bank": (2, 3), "test-bank": (3, 4)}
"""The quarters of the rows that belong to each part: the first, and the first after it."""


@cache
def table(name: str) -> Tensor:
    """Return the numbers of a file beside this module, ``(row, column)``, float64."""
    return torch.from_numpy(np.loadtxt(FOLDER / name, delimiter=","))


def part(rows: Tensor, name: str) -> Tensor:
    """Return the rows of training, of validation banks or of test banks."""
    first, end = QUARTERS[name]
    return rows[len(rows) * first // 4 : len(rows) * end // 4]


def interpolated(samples: Tensor, row: Tensor, x: Tensor) -> Tensor:
    """Interpolate rows of samples linearly in each coordinate.

    Args:
        samples: ``(row, *grid)``, with equally many samples along each feature.
        row: Index of the row of each task, ``(..., task)``, int64.
        x: ``(..., task, point, feature)``.

    Returns:
        ``(..., task, point, 1)``.
    """
    (low, high), last = EXTENT, samples.shape[1] - 1
    position = ((x - low) / (high - low) * last).clamp(0, last)
    before = position.floor().clamp_max(last - 1)
    fraction = position - before
    y = torch.zeros((), dtype=samples.dtype)
    for corner in product((0, 1), repeat=x.shape[-1]):
        offset = torch.tensor(corner)
        weight = torch.where(offset > 0, fraction, 1 - fraction).prod(-1)
        index = (before.long() + offset).unbind(-1)
        y = y + weight * samples[(row[..., None], *index)]
    return y[..., None]


class RecordedDistribution(TaskDistribution):
    """A distribution of rows, each equally likely."""

    @property
    def width(self) -> int:
        """The row."""
        return 1

    @property
    def recorded(self) -> bool:
        """Tasks are rows of a table."""
        return True

    @abstractmethod
    def rows(self, name: str) -> Tensor:
        """Return the indices of the rows of a part, by its name in `QUARTERS`."""

    @abstractmethod
    def at(self, row: Tensor) -> Task:
        """Return the tasks of rows ``(..., task)``."""

    def draw(self, unit: Tensor) -> Task:
        """Map uniform numbers ``(..., task, 1)`` on [0, 1) to training tasks ``(..., task)``."""
        return self._drawn(unit, "training")

    def draw_held_out(self, unit: Tensor, bank: str) -> Task:
        """Map uniform numbers ``(..., task, 1)`` on [0, 1) to tasks of a bank ``(..., task)``."""
        return self._drawn(unit, bank)

    def _drawn(self, unit: Tensor, name: str) -> Task:
        rows = self.rows(name)
        return self.at(rows[(unit[..., 0] * len(rows)).long()])
