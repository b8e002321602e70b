"""What a task distribution is: from uniform numbers to functions, and where they are looked at.

    y = f(x) + noise * normal

A family says which functions; domain, query grid, noise and how many tasks training has are the
same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from metabench.learning.fields import Count, Interval, Model, NotNegative
from metabench.learning.randomness import normals


class Points(NamedTuple):
    """Labelled points, x and y ``(..., point, feature)``."""

    x: Tensor
    y: Tensor

    def at(self, index: int | slice) -> Points:
        """Index the first axis of both."""
        return Points(self.x[index], self.y[index])

    def unbind(self) -> list[Points]:
        """Return the points at each place of the first axis."""
        return [Points(x, y) for x, y in zip(self.x.unbind(), self.y.unbind(), strict=True)]

    def repeated(self, times: int) -> Points:
        """Return the same points for each of so many steps, ``(step, ..., point, feature)``.

        Nothing is copied.
        """
        return Points(self.x.expand(times, *self.x.shape), self.y.expand(times, *self.y.shape))

    def to(self, dtype: torch.dtype) -> Points:
        """Return both as another floating-point type."""
        return Points(self.x.to(dtype), self.y.to(dtype))


class Task(Protocol):
    """A stack of tasks: a dataclass of their parameters, each ``(..., task)``, float64."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return y without noise ``(..., task, point, 1)`` at x ``(..., task, point, feature)``."""


class TaskDistribution(Model, ABC):
    """A distribution of tasks. A family is a subclass, whose `family` is a Literal of its name.

    Args:
        family: Name of the family.
        domain: Least and largest x.
        grid_points: Points of the query grid, evenly spaced on the domain, both ends included.
        noise: Standard deviation of what is added to labels that are learned from, in training and
            on support points. Losses are measured against the function itself.
        training_tasks: How many tasks a training run sees, again and again in random order; without
            end if not given.
    """

    family: str
    domain: Interval = (-5.0, 5.0)
    grid_points: Annotated[int, Field(ge=2, le=10_000)] = 50
    noise: NotNegative = 0.0
    training_tasks: Count | None = None

    @property
    def features(self) -> int:
        """How many numbers an x is made of."""
        return 1

    @property
    def grid(self) -> Tensor:
        """The query grid, ``(point, feature)``, float64: the product of the grids of the features."""
        return lattice(self.domain, self.grid_points, self.features)

    @property
    def grid_size(self) -> int:
        """How many points the query grid has."""
        return int(self.grid_points**self.features)

    @property
    @abstractmethod
    def width(self) -> int:
        """How many uniform numbers a task is made of."""

    @abstractmethod
    def draw(self, unit: Tensor) -> Task:
        """Map uniform numbers ``(..., task, width)`` on [0, 1) to tasks ``(..., task)``."""

    @abstractmethod
    def one(self, **parameters: float) -> Task:
        """Return one task with these parameters, for pictures.

        Raises TypeError where the family has no such parameters.
        """

    def basis(self, x: Tensor) -> list[Tensor] | None:
        """Return functions at x that span every task, for least squares; None where none do."""
        return None

    @property
    def period(self) -> float | None:
        """The period of every task; None where they have none in common."""
        return None

    def observed(self, y: Tensor, draw: Callable[[], NDArray[Any]]) -> Tensor:
        """Add noise, if there is any, to labels ``(..., point, 1)``.

        `draw` gives uniform numbers ``(..., point)``.
        """
        if not self.noise:
            return y
        return y + self.noise * torch.from_numpy(normals(draw()))[..., None]


def lattice(interval: Interval, points: int, features: int) -> Tensor:
    """Return evenly spaced points in each feature, ``(points ** features, feature)``, float64."""
    axis = torch.linspace(*interval, points, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * features).reshape(-1, features)


def scale(unit: Tensor, interval: Interval) -> Tensor:
    """Map uniform numbers on [0, 1) to an interval."""
    low, high = interval
    return low + (high - low) * unit
