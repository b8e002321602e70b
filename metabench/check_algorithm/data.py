"""Checks of the data that an algorithm draws for its meta-iterations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metabench.check_algorithm.subject import SEEDS, Subject, must, one_iteration
from metabench.learning.randomness import BLOCK
from metabench.learning.tasks import Points, Task, TaskBlock


class Raised(NamedTuple):
    """Tasks with a number added to each function."""

    task: Task
    by: Tensor
    """``(run, task)``."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return labels."""
        return self.task(x) + self.by[..., None, None]


@dataclass(frozen=True)
class RaisedBlock(TaskBlock):
    """A block of tasks with a number added to each function, ``(run, task)``."""

    by: Tensor

    @cached_property
    def drawn(self) -> Task:
        """The tasks."""
        return Raised(super().drawn, self.by)


def raised(s: Subject, run: int, task: int) -> RaisedBlock:
    """Return the first block with one task of one run raised by 1, in every meta-iteration."""
    by = torch.zeros(len(SEEDS), s.meta_batch_size, dtype=torch.float64)
    by[run, task] = 1.0
    return RaisedBlock(s.stream(), 0, by)


def has_tasks(points: Points) -> bool:
    """Return whether points of one meta-iteration have an axis of tasks."""
    return points.y.dim() >= 4


def by_task(points: Points) -> Points:
    """Return the points of one meta-iteration with the axes ``(run, task, point, feature)``.

    Mini-batches of a task are joined. Points without a task axis get one of length 1.
    """
    x, y = points.x.expand(*points.y.shape[:-1], -1), points.y
    if not has_tasks(points):
        return Points(x.unsqueeze(1), y.unsqueeze(1))
    return Points(*(part.movedim((-4, -3), (0, 1)).flatten(2, -2) for part in (x, y)))


def samples_whole_blocks(s: Subject) -> None:
    """`sample` returns labelled float64 points of a whole meta-batch, iteration axis first."""
    block: Any = s.sample()
    must(isinstance(block, tuple), f"sample must return a tuple of Points, got {type(block)}")
    must(bool(block) or not s.trains, "sample must return data to learn from")
    for points in block:
        must(
            isinstance(points, tuple) and len(points) == 2,
            "sample must return a tuple of Points, each with x and y",
        )
        shapes = [tuple(p.shape) for p in points]
        must(all(p.dtype == torch.float64 for p in points), "sample must return float64")
        must(
            all(shape[0] == BLOCK for shape in shapes),
            f"the first axis must be the iteration, {BLOCK}; got {shapes}",
        )
        *_, runs, tasks, _, _ = (0, *shapes[1])
        must(
            (len(shapes[1]) == 4 and tasks == len(SEEDS))
            or (len(shapes[1]) > 4 and (runs, tasks) == (len(SEEDS), s.meta_batch_size)),
            f"labels must be (iteration, ..., run, task, point, 1) of {len(SEEDS)} runs and "
            f"{s.meta_batch_size} tasks, or (iteration, run, point, 1); got {shapes[1]}",
        )


def draws_labels_of_its_tasks(s: Subject) -> None:
    """Each labelled point of `sample` lies on a task of its run and meta-iteration."""
    for number in (0, 1):
        block = s.stream().block(number)
        data = s.sample(block)
        for iteration in (0, 1, BLOCK - 1):
            # The labels of all tasks of a run at the same places, ``(run, task, point, 1)``.
            for points in one_iteration(data, iteration=iteration):
                x, y = by_task(points)
                everywhere = x.expand(-1, s.meta_batch_size, -1, -1)
                expected = block.drawn(everywhere.expand(BLOCK, *everywhere.shape))[iteration]
                right = (expected - y).abs() < 1e-9
                # Where all tasks share an axis, any of them will do.
                right = right if has_tasks(points) else right.any(1)
                must(
                    bool(right.all()),
                    f"{int((~right).sum())} of {right.numel()} labels of sample are not those of "
                    f"their task at their place (meta-iteration {number * BLOCK + iteration})",
                )


def keeps_query_and_support_apart(s: Subject) -> None:
    """If `sample` returns a support and a query set, the query set has points of its own."""
    batch = s.batch(dtype=torch.float64)
    if len(batch) != 2:
        return
    support, query = (by_task(points).x for points in batch)
    if support.shape[:2] != query.shape[:2]:
        return
    equal = (query.unsqueeze(-2) == support.unsqueeze(-3)).all(-1)  # (., ., query, support point)
    must(
        not bool(equal.any(-1).all()),
        "every query point is a support point: the query loss is that on what was adapted to",
    )
