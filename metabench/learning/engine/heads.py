"""Gradients through the adaptation of a head on fixed features, on torch.

The tasks of a run share the hidden layers. So all points of a run go through these layers together,
and a query grid that all tasks share goes through them once. A head is linear in the features h:
its predictions are h w + b.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from metabench.learning.linear import factor, product

if TYPE_CHECKING:
    from metabench.learning.engine.reference import Reference

Sets = tuple[Tensor, Tensor]
"""x and y of each task's points, ``(run, task, point, .)``. If all tasks share x, it is ``(point,
feature)``.
"""

MetaBatch = tuple[Sets, Sets]
"""Support and query set of each task."""


class FeatureSets(NamedTuple):
    """The features of sets of points. A set belongs to one task, or to all tasks of a run."""

    h: Tensor
    """``(set, point, width)``."""
    tasks: int
    """Tasks of a run."""

    def times(self, w: Tensor) -> Tensor:
        """Return h w of each task, ``(run, task, point)``, from w ``(run, task, width)``."""
        return self._by_task(product(self._by_set(w), self.h.mT))

    def transposed(self, r: Tensor) -> Tensor:
        """Return h' r, ``(run, task, width)``, from r ``(run, task, point)``."""
        return self._by_task(product(self._by_set(r), self.h))

    def outer(self, r: Tensor, w: Tensor) -> Tensor:
        """Return r w', ``(set, point, width)``, summed over the tasks that share a set."""
        return product(self._by_set(r).mT, self._by_set(w))

    def _by_set(self, rows: Tensor) -> Tensor:
        """Group the rows of tasks by set, ``(set, task, n)``."""
        return rows.reshape(len(self.h), -1, rows.shape[-1])

    def _by_task(self, rows: Tensor) -> Tensor:
        """Undo `_by_set`."""
        return rows.reshape(-1, self.tasks, rows.shape[-1])


class Features:
    """The features of a meta-batch's support and query points, and the gradient back to theta.

    Args:
        engine: The torch engine.
        theta: ``(run, P)``.
        support: x of the support points, ``(run, task, shots, feature)``.
        query: x of the query points, likewise, or of the grid ``(point, feature)``.
    """

    def __init__(self, engine: Reference, theta: Tensor, support: Tensor, query: Tensor) -> None:
        runs, tasks, shots = support.shape[:3]
        shared = query.dim() == 2
        query_points = query.expand(runs, *query.shape) if shared else query.flatten(1, 2)
        self.engine, self.theta, width = engine, theta, engine.network.widths[-2]
        self.x = torch.cat([support.flatten(1, 2), query_points], dim=1)
        self.hidden = engine.hidden_layers(theta, self.x)
        last = self.hidden[..., -self.x.shape[1] * width :].unflatten(-1, (-1, width))
        of_support, of_query = last.split([tasks * shots, query_points.shape[1]], dim=1)
        self.support = FeatureSets(of_support.reshape(runs * tasks, shots, width), tasks)
        self.query = FeatureSets(of_query.reshape(-1, query.shape[-2], width), tasks)

    def pulled_back(self, support: Tensor, query: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the gradient of a loss with respect to theta, ``(run, P)``.

        Args:
            support: dL/dh at the support points, with the axes of `FeatureSets.h`.
            query: dL/dh at the query points, likewise.
            weight: dL/dw of the head, ``(run, width)``.
            bias: dL/db of the head, ``(run, 1)``.
        """
        runs = len(self.theta)
        parts = [part.reshape(runs, -1, part.shape[-1]) for part in (support, query)]
        cotangent = torch.cat(parts, dim=1)
        before = self.engine.pulled_back(self.theta, self.x, self.hidden, cotangent)
        return torch.cat([before, weight, bias], dim=-1)


def gradient_through_head(
    engine: Reference, theta: Tensor, tasks: MetaBatch, step_size: float, steps: int
) -> Tensor:
    """Implement `Network.gradient_through_head`. The equations are those of anil.py."""
    support, query = tasks
    features = Features(engine, theta, support[0], query[0])
    at_support, at_query = features.support, features.query
    y, labels = support[1].squeeze(-1), query[1].squeeze(-1)  # (run, task, point)
    step = 2 * step_size / y.shape[-1]  # the factor of d/df mean (f - y)^2 = 2 (f - y) / n

    w, b = _head(theta, at_support)
    path = []  # w and the errors of each step, for the way back
    for _ in range(steps):
        error = at_support.times(w) + b - y
        path.append((w, error))
        w = w - step * at_support.transposed(error)
        b = b - step * error.sum(-1, keepdim=True)

    r = (at_query.times(w) + b - labels) * (2 / labels.shape[-1])  # dL/df at the query points
    u, c = at_query.transposed(r), r.sum(-1, keepdim=True)
    along_query = at_query.outer(r, w)
    along_support = torch.zeros_like(at_support.h)
    for w, error in reversed(path):
        q = -step * (at_support.times(u) + c)
        along_support += at_support.outer(q, w) + at_support.outer(error, -step * u)
        u, c = u + at_support.transposed(q), c + q.sum(-1, keepdim=True)
    return features.pulled_back(along_support, along_query, u.sum(1), c.sum(1))


def gradient_through_ridge(
    engine: Reference, theta: Tensor, weight: Tensor, tasks: MetaBatch
) -> tuple[Tensor, Tensor]:
    """Implement `Network.gradient_through_ridge`. The equations are those of ridge.py."""
    support, query = tasks
    features = Features(engine, theta, support[0], query[0])
    at_support, at_query = features.support, features.query
    y, labels = support[1].squeeze(-1), query[1].squeeze(-1)  # (run, task, point)
    count, shots = y.shape[1:]

    w, b = _head(theta, at_support)
    scale = weight.repeat_interleave(count)[:, None, None]
    unit = torch.eye(shots, dtype=theta.dtype)
    root = factor(product(at_support.h, at_support.h.mT) + scale * unit)

    def solved(r: Tensor) -> Tensor:
        """Return K^-1 r for r ``(run, task, shots)``."""
        return torch.cholesky_solve(r.reshape(-1, shots, 1), root).view_as(r)

    k = solved(y - (at_support.times(w) + b))
    v = w + at_support.transposed(k)
    r = (at_query.times(v) + b - labels) * (2 / labels.shape[-1])  # dL/df at the query points
    a = at_query.transposed(r)
    z = solved(at_support.times(a))
    along_w = a - at_support.transposed(z)
    gradient = features.pulled_back(
        at_support.outer(k, along_w) - at_support.outer(z, v),
        at_query.outer(r, v),
        along_w.sum(1),
        (r.sum(-1) - z.sum(-1)).sum(1, keepdim=True),
    )
    return gradient, -weight * (z * k).sum((1, 2))


def _head(theta: Tensor, at: FeatureSets) -> tuple[Tensor, Tensor]:
    """Return w ``(run, task, width)`` and b ``(run, 1, 1)`` of networks theta ``(run, P)``."""
    width = at.h.shape[-1]
    return theta[:, None, -width - 1 : -1].expand(-1, at.tasks, -1), theta[:, None, -1:]
