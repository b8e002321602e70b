"""The data of held-out tasks under a protocol: support points, query points and their regions.

The region `all` has every query point. If they are the grid, further regions are parts of it:

    support    `seen`, the points inside the support interval, and `unseen`, those outside
    distance   quarters, from the points nearest to a support point of their task to the farthest
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from metabench.learning.randomness import uniforms
from metabench.learning.settings import Banks, Protocol
from metabench.learning.tasks import (
    Bank,
    Points,
    Task,
    TaskDistribution,
    lattice,
    mislabelled,
    scale,
)

MARGIN = 0.05
"""Margin of pictures on either side of the domain, as a fraction of its length."""

PICTURE_POINTS = {1: 111, 2: 41}
"""Points of a picture along each feature of x, by the number of features."""

PICTURE = 2000
"""Approximate total number of points of a picture with more features."""

QUARTERS = ("nearest", "near", "far", "farthest")
"""The quarters of the grid by distance to the nearest support point."""


class HeldOut(NamedTuple):
    """The data of a bank's tasks under one protocol."""

    support: Points
    """``(task, shots, feature)``."""
    query: Points
    """x is the grid ``(point, feature)`` or fresh points ``(task, point, feature)``; y is ``(task,
    point, 1)``, without noise.
    """
    observed: Tensor
    """Labels of the query points with noise, ``(task, point, 1)``."""
    regions: dict[str, Tensor]
    """Indices of the query points of each region, ``(index,)`` or ``(task, index)``."""

    def at(self, tasks: slice) -> HeldOut:
        """Return the data of some of the tasks."""
        x = self.query.x if self.query.x.dim() == 2 else self.query.x[tasks]
        parts = {n: at if at.dim() == 1 else at[tasks] for n, at in self.regions.items()}
        query = Points(x, self.query.y[tasks])
        return HeldOut(self.support.at(tasks), query, self.observed[tasks], parts)

    def to(self, dtype: torch.dtype) -> HeldOut:
        """Return the data converted to a floating-point type."""
        support, query = self.support.to(dtype), self.query.to(dtype)
        return HeldOut(support, query, self.observed.to(dtype), self.regions)

    def by_region(self, values: Tensor) -> Tensor:
        """Return means over each region: ``(..., task, point)`` to ``(region, ..., task)``."""
        return torch.stack([_part(values, index).mean(-1) for index in self.regions.values()])


def _part(values: Tensor, index: Tensor) -> Tensor:
    """Return the values at query points: ``(..., task, point)`` to ``(..., task, index)``."""
    if index.dim() == 1:
        return values[..., index]
    return values.gather(-1, index.expand(*values.shape[:-1], -1))


def held_out(protocol: Protocol, tasks: TaskDistribution, purpose: str, count: int) -> HeldOut:
    """Return held-out tasks under a protocol, float64.

    Args:
        protocol: The protocol.
        tasks: Distribution of the training tasks, which the protocol may change.
        purpose: Name of the bank, ``validation-bank`` or ``test-bank``.
        count: Number of tasks.
    """
    distribution = protocol.distribution(tasks)
    bank = Bank(protocol.bank, purpose, distribution, count)
    support = bank.support(protocol.shots, protocol.support, protocol.place, protocol.outliers)
    query = bank.query(protocol.queries)
    parts = regions(distribution, protocol, support.x)
    return HeldOut(support, query, bank.observed(query), parts)


def banks_under(protocol: Protocol, tasks: TaskDistribution, banks: Banks) -> dict[str, HeldOut]:
    """Return the held-out tasks under a protocol, by the name of their bank."""
    return {
        name: held_out(protocol, tasks, f"{name}-bank", count)
        for name, count in (("test", banks.test), ("validation", banks.validation))
    }


def regions(
    distribution: TaskDistribution, protocol: Protocol, support: Tensor
) -> dict[str, Tensor]:
    """Return the indices of the query points of each region.

    Fresh query points differ between tasks, so they have only the region `all`.

    Args:
        distribution: Distribution of the tasks under the protocol.
        protocol: The protocol.
        support: The x of support points, ``(task, shots, feature)``.
    """
    if protocol.queries:
        return {"all": torch.arange(protocol.queries)}
    everywhere = {"all": torch.arange(distribution.grid_size)}
    if protocol.regions == "distance":
        apart = distribution.grid[:, None] - support[:, None]  # (task, point, shot, feature)
        order = apart.square().sum(-1).amin(-1).argsort(dim=-1, stable=True)
        return everywhere | dict(zip(QUARTERS, order.tensor_split(4, -1), strict=True))
    inside = seen(distribution.grid, protocol)
    if bool(inside.all()):
        return everywhere
    return {**everywhere, "seen": inside.nonzero()[:, 0], "unseen": (~inside).nonzero()[:, 0]}


def seen(grid: Tensor, protocol: Protocol) -> Tensor:
    """Return which points of a grid support points may be at, ``(point,)``."""
    low, high = protocol.support
    inside = (grid >= low) & (grid <= high)
    if protocol.gap:
        first, last = protocol.gap
        inside &= (grid <= first) | (grid >= last)
    return inside.all(-1)


def region_names(distribution: TaskDistribution, protocol: Protocol) -> tuple[str, ...]:
    """Return the names of the regions under a protocol; arguments are those of `regions`."""
    anywhere = torch.zeros(1, 1, distribution.features, dtype=torch.float64)
    return tuple(regions(distribution, protocol, anywhere))


def measures_distributions(protocol: Protocol, tasks: TaskDistribution) -> bool:
    """Return whether predictive distributions are measured under a protocol.

    They are distributions of labels, so labels must have noise, in training and under the protocol.
    """
    return bool(tasks.noise and protocol.distribution(tasks).noise)


def losses(predicted: Tensor, tasks: HeldOut) -> Tensor:
    """Return the mean squared error of predictions on each region of the query points.

    Args:
        predicted: ``(..., task, point, 1)``.
        tasks: The tasks.

    Returns:
        ``(region, ..., task)``.
    """
    return tasks.by_region((predicted - tasks.query.y).square_()[..., 0])


def picture_x(distribution: TaskDistribution) -> Tensor:
    """Return the points of pictures, ``(point, feature)``, float64: the domain and a margin.

    Tasks that are records have no margin.
    """
    (low, high), features = distribution.domain, distribution.features
    beyond = 0.0 if distribution.recorded else MARGIN * (high - low)
    points = PICTURE_POINTS.get(features, max(2, int(PICTURE ** (1 / features))))
    return lattice((low - beyond, high + beyond), points, features)


def picture_support(distribution: TaskDistribution, task: Task, protocol: Protocol) -> Points:
    """Return the support points of the task in pictures, the same for every cell and seed.

    Args:
        distribution: Distribution of the tasks under the protocol, which has the noise of labels.
        task: The task.
        protocol: Protocol with the number and the interval of the points.
    """
    shots, wrong, features = protocol.shots, protocol.outliers, distribution.features
    unit = torch.from_numpy(uniforms("showcase", "showcase", 0, shots * features))
    x = protocol.place(unit.unflatten(-1, (shots, features)), protocol.support)
    other = torch.from_numpy(uniforms("showcase", "showcase", 2, wrong * features))
    labelled = mislabelled(x, scale(other.unflatten(-1, (wrong, features)), distribution.domain))
    noise = partial(uniforms, "showcase", "showcase", 1, shots)
    return Points(x, distribution.observed(x, task(labelled), noise))
