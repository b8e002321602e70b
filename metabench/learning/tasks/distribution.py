"""Task distributions: maps from uniform numbers to functions, and the points that are observed.

    y = f(x) + noise * e(x)

A family defines the functions. The domain, the query grid, the noise and the number of training
tasks are settings of all families. The kinds of noise have E[e^2] = 1:

    normal         standard normal
    heavy-tailed   Student's t with 3 degrees of freedom, divided by its standard deviation
    growing        standard normal, times sqrt(3) |x - center| / half-width of the domain
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import sqrt
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from metabench.learning.fields import Count, Interval, Model, NotNegative
from metabench.learning.randomness import normals, students


class Points(NamedTuple):
    """Labelled points, x and y ``(..., point, feature)``."""

    x: Tensor
    y: Tensor

    def at(self, index: int | slice) -> Points:
        """Index the first axis of x and y."""
        return Points(self.x[index], self.y[index])

    def unbind(self) -> list[Points]:
        """Return the points at each index of the first axis."""
        return [Points(x, y) for x, y in zip(self.x.unbind(), self.y.unbind(), strict=True)]

    def repeated(self, times: int) -> Points:
        """Return the same points for each step, ``(step, ..., point, feature)``, as views."""
        return Points(self.x.expand(times, *self.x.shape), self.y.expand(times, *self.y.shape))

    def known(self) -> tuple[Points, Tensor]:
        """Return the points with labels 0 for nan, and which labels are not nan, of y's shape."""
        missing = self.y.isnan()
        return Points(self.x, self.y.masked_fill(missing, 0)), ~missing

    def to(self, dtype: torch.dtype) -> Points:
        """Return x and y converted to a floating-point type."""
        return Points(self.x.to(dtype), self.y.to(dtype))


class Task(Protocol):
    """A stack of tasks: a dataclass of parameters, each ``(..., task)``, float64."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return y without noise ``(..., task, point, 1)`` at x ``(..., task, point, feature)``."""


class TaskDistribution(Model, ABC):
    """A distribution of tasks. Each family is a subclass with its name as a Literal in `family`.

    Args:
        family: Name of the family.
        domain: Interval of x.
        grid_points: Number of points of the query grid, evenly spaced on the domain with both ends.
        noise: Standard deviation of the noise on labels in training and on support points. Losses
            are measured against the function without noise.
        noise_kind: Distribution of the noise. The growing kind has this standard deviation on
            average over the domain.
        training_tasks: Number of different tasks of a training run, which recur in random order; by
            default, every task is new.
    """

    family: str
    domain: Interval = (-5.0, 5.0)
    grid_points: Annotated[int, Field(ge=2, le=10_000)] = 50
    noise: NotNegative = 0.0
    noise_kind: Literal["normal", "heavy-tailed", "growing"] = "normal"
    training_tasks: Count | None = None

    @property
    def features(self) -> int:
        """Number of features of x."""
        return 1

    @property
    def grid(self) -> Tensor:
        """The query grid, ``(point, feature)``, float64: the product of the features' grids."""
        return lattice(self.domain, self.grid_points, self.features)

    @property
    def grid_size(self) -> int:
        """Number of points of the query grid."""
        return int(self.grid_points**self.features)

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of uniform numbers that determine a task."""

    @abstractmethod
    def draw(self, unit: Tensor) -> Task:
        """Map uniform numbers ``(..., task, width)`` on [0, 1) to tasks ``(..., task)``."""

    def draw_held_out(self, unit: Tensor, bank: str) -> Task:
        """Map uniform numbers to tasks of a bank, which recorded data keep apart from training.

        Args:
            unit: ``(..., task, width)``, on [0, 1).
            bank: ``validation-bank`` or ``test-bank``.
        """
        return self.draw(unit)

    @abstractmethod
    def one(self, **parameters: float) -> Task:
        """Return one task with these parameters, for pictures.

        Raises:
            TypeError: The family has no such parameters.
            ValueError: No task of the family has these values.
        """

    def basis(self, x: Tensor) -> list[Tensor] | None:
        """Return the values at x of functions that span all tasks, or None if there are none."""
        return None

    @property
    def period(self) -> float | None:
        """The common period of all tasks, or None."""
        return None

    @property
    def recorded(self) -> bool:
        """Whether tasks are records, of which nothing is known beyond the domain."""
        return False

    def observed(self, x: Tensor, y: Tensor, draw: Callable[[], NDArray[Any]]) -> Tensor:
        """Add the noise, if any, to labels ``(..., point, 1)`` at x ``(..., point, feature)``.

        `draw` returns uniform numbers ``(..., point)``. It is not called without noise.
        """
        if not self.noise:
            return y
        drawn = (students if self.noise_kind == "heavy-tailed" else normals)(draw())
        noise = self.noise * torch.from_numpy(drawn)[..., None]
        return y + (self._growth(x) * noise if self.noise_kind == "growing" else noise)

    def _growth(self, x: Tensor) -> Tensor:
        """Return the factor of growing noise; the mean of its square over the domain is 1."""
        low, high = self.domain
        from_center = (2 * x - low - high) / (high - low)
        return sqrt(3) * from_center.square().mean(-1, keepdim=True).sqrt()


def lattice(interval: Interval, points: int, features: int) -> Tensor:
    """Return a grid, evenly spaced in each feature, ``(points ** features, feature)``, float64."""
    axis = torch.linspace(*interval, points, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * features).reshape(-1, features)


Placement = Callable[[Tensor, Interval], Tensor]
"""A map from uniform numbers ``(..., point, feature)`` to points of an interval."""


def scale(unit: Tensor, interval: Interval) -> Tensor:
    """Map uniform numbers on [0, 1) to an interval."""
    low, high = interval
    return low + (high - low) * unit


def mislabelled(x: Tensor, other: Tensor) -> Tensor:
    """Return the points whose labels are given to x: other points, and x beyond their number."""
    return torch.cat([other, x[..., other.shape[-2] :, :]], dim=-2)


def evenly(unit: Tensor, interval: Interval) -> Tensor:
    """Return the centers of equal parts of an interval, one for each point, whatever is drawn."""
    points = unit.shape[-2]
    parts = (torch.arange(points, dtype=unit.dtype) + 0.5) / points
    return scale(parts[:, None], interval).expand_as(unit)


def around(gap: Interval, place: Placement) -> Placement:
    """Return a placement on an interval without a gap, in each feature of x."""
    first, last = gap

    def placed(unit: Tensor, interval: Interval) -> Tensor:
        low, high = interval
        x = place(unit, (low, high - (last - first)))
        return torch.where(x < first, x, x + (last - first))

    return placed
