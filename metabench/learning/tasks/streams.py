"""The endless stream of training tasks, and the banks of held-out tasks.

Streams and banks are the same for every algorithm and cell, so comparisons are paired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metabench.learning.fields import Interval
from metabench.learning.randomness import BLOCK, permutations, uniforms
from metabench.learning.tasks.distribution import (
    Placement,
    Points,
    Task,
    TaskDistribution,
    mislabelled,
    scale,
)


@dataclass(frozen=True)
class TaskStream:
    """The endless sequence of training tasks of each seed.

    The function, the points and the shuffle of task n of a seed each have their own address.
    Meta-iteration i uses tasks T i .. T i + T - 1. So algorithms with different meta-batch sizes
    use the same sequence at different rates.

    Args:
        distribution: The distribution of tasks.
        seeds: Seed of each run.
        meta_batch_size: T, the number of tasks of a meta-iteration.
    """

    distribution: TaskDistribution
    seeds: tuple[int, ...]
    meta_batch_size: int

    def block(self, number: int) -> TaskBlock:
        """Return the tasks of `BLOCK` meta-iterations."""
        return TaskBlock(self, number)


@dataclass(frozen=True)
class TaskBlock:
    """The tasks of one block of meta-iterations.

    The first axis of every tensor is the iteration. All numbers are float64.

    Args:
        stream: The stream.
        number: Index of the block, from 0.
    """

    stream: TaskStream
    number: int

    @property
    def grid(self) -> Tensor:
        """The query grid, ``(point, feature)``."""
        return self.stream.distribution.grid

    @cached_property
    def drawn(self) -> Task:
        """The tasks, ``(iteration, run, task)``."""
        distribution = self.stream.distribution
        unit = self._uniforms("train-task", distribution.width)
        if count := distribution.training_tasks:
            # A fixed set of `count` training tasks: the first uniform number selects one of them.
            draws = np.stack(
                [
                    uniforms(s, "train-tasks", 0, count * distribution.width)
                    for s in self.stream.seeds
                ]
            )
            rows = torch.from_numpy(draws).unflatten(1, (count, -1))  # (run, task, width)
            unit = rows[torch.arange(len(rows))[:, None], (unit[..., 0] * count).long()]
        return distribution.draw(unit)

    def support(self, shots: int) -> Points:
        """Return fresh points of each task, ``(iteration, run, task, shots, feature)``.

        Points are uniform on the domain.
        """
        x = self._points("train-support", shots)
        return Points(x, self._observed(x, "train-support-noise"))

    def varied_support(self, least: int, most: int, least_width: float) -> Points:
        """Return support sets of random sizes on random intervals, in the shape of `support`.

        The size of a set is uniform on least .. most. Its points are uniform on an interval, whose
        width is uniform on least_width .. 1 of the domain and whose place is uniform. Points beyond
        the size of a set have the label nan.
        """
        distribution = self.stream.distribution
        sizes, widths, places = self._uniforms("train-context", 3)[..., None].unbind(-2)
        widths = least_width + (1 - least_width) * widths
        unit = self._uniforms("train-support", most * distribution.features)
        x = scale((1 - widths) * places + widths * unit, distribution.domain)
        x = x.unflatten(-1, (most, distribution.features))
        y = self._observed(x, "train-support-noise")
        beyond = torch.arange(most) >= least + (sizes * (most - least + 1)).floor()
        return Points(x, y.masked_fill(beyond[..., None], torch.nan))

    def query(self, points: int = 0) -> Points:
        """Return the query set of each task: fresh points, different from the support, or the grid.

        Args:
            points: Number of fresh points; 0 selects the grid.

        Returns:
            x ``(iteration, run, task, point, feature)``, or ``(iteration, point, feature)`` for the
            grid; and y ``(iteration, run, task, point, 1)``.
        """
        x = self._points("train-query", points) if points else self.grid
        y = self._observed(x, "train-query-noise")
        return Points(x if points else x.expand(len(y), *x.shape), y)

    def mini_batches(self, count: int, shots: int) -> Points:
        """Shuffle the grid of each task and cut it into disjoint mini-batches.

        Returns:
            ``(iteration, batch, run, task, shots, feature)``.
        """
        order, y = self.shuffles()[..., : count * shots], self.query().y
        # Labels are gathered along their last axis, which takes torch a tenth of the time.
        x, y = self.grid[order], y[..., 0].gather(-1, order)[..., None]
        batches = (points.unflatten(-2, (count, shots)).movedim(-3, 1) for points in (x, y))
        return Points(*(points.contiguous() for points in batches))

    def _points(self, purpose: str, count: int) -> Tensor:
        """Draw points on the domain, ``(iteration, run, task, count, feature)``."""
        distribution = self.stream.distribution
        unit = self._uniforms(purpose, count * distribution.features)
        return scale(unit, distribution.domain).unflatten(-1, (count, distribution.features))

    def shuffles(self) -> Tensor:
        """Return a permutation of each task's query grid, ``(iteration, run, task, point)``."""
        length = self.stream.distribution.grid_size
        return self._by_iteration(
            lambda seed, block: permutations(seed, "train-shuffle", block, BLOCK, length)
        )

    def _observed(self, x: Tensor, purpose: str) -> Tensor:
        """Return labels of the tasks at x, with noise."""
        return self.stream.distribution.observed(
            x, self.drawn(x), lambda: self._uniforms(purpose, x.shape[-2]).numpy()
        )

    def _uniforms(self, purpose: str, width: int) -> Tensor:
        return self._by_iteration(
            lambda seed, block: uniforms(seed, purpose, block, BLOCK * width).reshape(BLOCK, width)
        )

    def _by_iteration(self, draw: Callable[[int, int], NDArray[Any]]) -> Tensor:
        """Draw the T stream blocks of `BLOCK` meta-iterations, ``(iteration, run, task, ...)``."""
        size = self.stream.meta_batch_size
        blocks = range(self.number * size, (self.number + 1) * size)
        draws = np.stack(
            [np.concatenate([draw(seed, b) for b in blocks]) for seed in self.stream.seeds]
        )
        return torch.from_numpy(draws).unflatten(1, (BLOCK, size)).transpose(0, 1).contiguous()


@dataclass(frozen=True)
class Bank:
    """A fixed list of held-out tasks, the same for every cell, seed and study.

    Equal distributions have equal tasks. Distributions with equally many parameters share their
    draws up to scale. So comparisons between studies are paired, too.

    Args:
        number: Index of the list, from 0: the key of the stream.
        purpose: ``validation-bank`` (for selection) or ``test-bank`` (for results).
        distribution: The distribution of tasks.
        tasks: Number of tasks. A larger bank begins with the tasks of a smaller one.
    """

    number: int
    purpose: str
    distribution: TaskDistribution
    tasks: int

    @cached_property
    def drawn(self) -> Task:
        """The tasks, ``(task,)``."""
        width = self.distribution.width
        unit = uniforms(self._key, self.purpose, 0, width * self.tasks).reshape(self.tasks, width)
        return self.distribution.draw_held_out(torch.from_numpy(unit), self.purpose)

    def support(
        self, shots: int, interval: Interval, place: Placement = scale, outliers: int = 0
    ) -> Points:
        """Return each task's support points, ``(task, shots, feature)``.

        A larger support set begins with the points of a smaller one. Protocols share their draws.

        Args:
            shots: Number of points.
            interval: Interval of x.
            place: Map from uniform numbers to points of the interval.
            outliers: How many of the first points have the label of a different point, which is
                uniform on the domain.
        """
        x = place(self._unit(self.purpose, shots), interval)
        other = self._unit(f"{self.purpose}-outliers", outliers) if outliers else x[:, :0]
        labelled = mislabelled(x, scale(other, self.distribution.domain))
        noise = partial(self._uniforms, f"{self.purpose}-noise", shots)
        return Points(x, self.distribution.observed(x, self.drawn(labelled), noise))

    def query(self, points: int = 0) -> Points:
        """Return each task's query set without noise: fresh points, or the grid.

        Args:
            points: Number of fresh points; 0 selects the grid.

        Returns:
            x ``(task, point, feature)``, or ``(point, feature)`` for the grid; and y
            ``(task, point, 1)``.
        """
        if points:
            x = scale(self._unit(f"{self.purpose}-query", points), self.distribution.domain)
        else:
            x = self.distribution.grid
        return Points(x, self.drawn(x))

    def observed(self, query: Points) -> Tensor:
        """Return labels as they would be observed at query points."""
        noise = partial(self._uniforms, f"{self.purpose}-query-noise", query.y.shape[-2])
        return self.distribution.observed(query.x, query.y, noise)

    def _unit(self, purpose: str, count: int) -> Tensor:
        """Draw points of each task on the unit cube, ``(task, count, feature)``."""
        features = self.distribution.features
        unit = torch.from_numpy(self._uniforms(purpose, count * features))
        return unit.unflatten(-1, (count, features))

    @property
    def _key(self) -> str:
        return f"bank {self.number}"

    def _uniforms(self, purpose: str, count: int) -> NDArray[np.float64]:
        """Return uniform numbers for each task, ``(task, count)``."""
        # A block for each column, so that neither more tasks nor more points change earlier draws.
        # Block 0 holds the tasks themselves.
        columns = [uniforms(self._key, purpose, 1 + k, self.tasks) for k in range(count)]
        return np.stack(columns, axis=-1)
