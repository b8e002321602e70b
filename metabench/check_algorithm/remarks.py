"""Remarks: what is not a mistake, but worth knowing for the author."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from metabench.check_algorithm.data import has_tasks
from metabench.check_algorithm.declarations import counted
from metabench.check_algorithm.directions import ROUNDING, close, left_to_learn
from metabench.check_algorithm.subject import ITERATION, Subject, same
from metabench.learning import algorithms
from metabench.learning.predictive import MEASURES, measures
from metabench.learning.tasks import Points

NLL = MEASURES.index("nll")

SLOPES = 1e-4
"""Difference of two ratios of slopes that finite differences may cause."""


def equals_another(s: Subject) -> Iterator[str]:
    """Report which algorithm of the package it equals, with the same hyperparameters."""
    if not s.trains:
        return
    for name in algorithms.NAMES:
        other = _counterpart(s, name)
        if name == algorithms.name(s.name_or_file) or other is None:
            continue
        ours, theirs = s.direction(), other.direction()
        if ours.shape != theirs.shape:
            continue
        factor = float((ours * theirs).sum() / theirs.square().sum())
        if same(ours, theirs):
            also = " and predictions" if _predicts_alike(s, other) else ""
            yield f"equal to {name} to the last digit: direction{also}"
        elif factor and close(ours, factor * theirs):
            yield f"its direction is that of {name} times {factor:.4g}, up to rounding"


def _counterpart(s: Subject, name: str) -> Subject | None:
    """Return another algorithm with the same hyperparameters; None if it does not train."""
    other = Subject(name, s.layers, s.tasks).changed(**s.h.model_dump())
    try:
        other.algorithm.cost(other.h, other.tasks)
    except (ValidationError, ValueError):
        return None
    return other if other.trains else None


def _predicts_alike(s: Subject, other: Subject) -> bool:
    support, x = s.held_out(), s.tasks.grid.float()
    return same(s.predict(s.begin(), support, x), other.predict(other.begin(), support, x))


def mixes_tasks(s: Subject) -> Iterator[str]:
    """Report if the direction is not the sum or the mean over tasks."""
    theta, batch = s.begin(dtype=torch.float64), s.batch(dtype=torch.float64)
    one = s.changed(meta_batch_size=1)
    if one.meta_batch_size != 1 or not batch or not all(has_tasks(points) for points in batch):
        return
    alone = [one.gradient(theta, _of_task(batch, task)) for task in range(s.meta_batch_size)]
    total: Tensor = torch.stack(alone).sum(0)
    found = s.gradient(theta, batch)
    if not close(found, total) and not close(found, total / s.meta_batch_size):
        yield (
            "the direction of a meta-batch is neither the sum nor the mean of those of its tasks: "
            "one task changes what is learned from another"
        )


def _of_task(batch: tuple[Points, ...], task: int) -> tuple[Points, ...]:
    """Return the data of one task."""
    only = slice(task, task + 1)
    found = []
    for x, y in batch:
        of_all = x.dim() < y.dim()  # a grid has no axis of tasks
        found.append(Points(x if of_all else x[..., only, :, :], y[..., only, :, :]))
    return tuple(found)


def learns_from_more_than_the_last_step(s: Subject) -> Iterator[str]:
    """Report if two inner steps leave something to learn although the last one leaves nothing."""
    two_steps = s.changed(inner_steps=2)
    if s.trains and hasattr(s.h, "inner_steps") and left_to_learn(two_steps) > ROUNDING:
        yield (
            "with two inner steps, the direction is not that of the query loss after the last: "
            "it has other terms, or training adapts differently from evaluation"
        )


def approximates_a_gradient(s: Subject) -> Iterator[str]:
    """Report if the direction is not the gradient of the query loss after adaptation.

    The loss is the squared error, or the negative log density if variances are predicted.
    """
    theta, batch = s.begin(dtype=torch.float64), s.batch(dtype=torch.float64)
    if len(batch) != 2 or not all(has_tasks(points) for points in batch):
        return
    support, query = batch
    updates = getattr(s.h, "inner_steps", 1)

    def loss(theta: Tensor) -> Tensor:
        if s.predicts_variance:
            distribution = s.distribution(theta, support, query.x, updates=updates)
            return measures(distribution, query.y)[NLL].mean(-1).sum(-1)  # (run,)
        predicted = s.predict(theta, support, query.x, updates=updates)[-1]
        return (predicted - query.y).square().mean((-2, -1)).sum(-1)

    found = s.gradient(theta, batch)
    ratios = []
    for along in (found, s.gradient(theta, s.batch(dtype=torch.float64, iteration=ITERATION + 1))):
        step = 1e-5 * along / along.norm(dim=-1, keepdim=True)
        slope = (loss(theta + step) - loss(theta - step)) / 2
        ratios.append(slope / (found * step).sum(-1))
    first, second = ratios  # equal where the direction is the gradient times any number
    if float((first / second - 1).abs().max()) > SLOPES:
        yield (
            "the direction is not the exact gradient of the query loss after adaptation, "
            "of which first-order methods leave a part out"
        )


def costs_more_than_was_counted(s: Subject) -> Iterator[str]:
    """Report if the cost exceeds the gradients that it takes of the network."""
    cost = s.algorithm.cost(s.h, s.tasks)
    _, points = counted(s)
    grids = sum(len(points.x) for points in s.batch() if points.x.dim() == 2)
    # Features of a grid may be the same for all tasks. None are counted where autograd takes them.
    shared = cost.point_gradients - grids * (cost.tasks - 1)
    if 0 < points < cost.point_gradients and points != shared:
        yield f"cost says {cost.point_gradients} point-gradients; counted were {points}"


def imports_what_may_move(s: Subject) -> Iterator[str]:
    """Report which imports of a file are not public names."""
    if not algorithms.is_file(s.name_or_file):
        return
    for node in ast.walk(ast.parse(Path(s.name_or_file).read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        for name in names:
            if name.startswith("metabench."):
                yield f"imports from {name}, which may move; `from metabench import ...` is stable"
