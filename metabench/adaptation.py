"""The inner loop, which exists once: training takes its last parameters, evaluation measures each of them.

    phi_0 = theta,    phi_{u+1} = phi_u - alpha grad L(phi_u; batch_u)

Reference: Finn et al. 2017, arXiv:1703.03400, equation 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metabench.network import Network


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
        """Return the same points for each of so many steps, ``(step, ..., point, feature)``; no copies."""
        return Points(self.x.expand(times, *self.x.shape), self.y.expand(times, *self.y.shape))

    def to(self, dtype: torch.dtype) -> Points:
        """Return both as another floating-point type."""
        return Points(self.x.to(dtype), self.y.to(dtype))


def one_copy_per_task(theta: Tensor, tasks: int) -> Tensor:
    """Repeat each initialization ``(run, P)`` for its tasks, ``(run, task, P)``.

    Without a copy of its own for each task, broadcasting would add up the gradients of different tasks silently.
    """
    return theta.unsqueeze(-2).expand(*theta.shape[:-1], tasks, theta.shape[-1])


def mean_over_tasks(phi: Tensor) -> Tensor:
    """Average adapted parameters ``(run, task, P)`` of each run over its tasks, ``(run, P)``.

    torch takes three times as long for the mean of one thing as for a difference.
    """
    return phi.squeeze(-2) if phi.shape[-2] == 1 else phi.mean(-2)


def adapted(network: Network, phi: Tensor, batches: Points, step_size: float | Tensor) -> Tensor:
    """Take one gradient step a batch and return the last parameters.

    Args:
        network: The network.
        phi: phi_0, the parameters to begin with, ``(..., P)``. Not changed.
        batches: Points of each step, ``(step, ..., point, feature)``: see `Points.repeated` for full-batch descent.
        step_size: alpha; one number, or one for each network, ``(...,)``.

    Returns:
        phi_U, ``(..., P)``.
    """
    return network.descend(phi, *batches, step_size)


def predictions(network: Network, phi: Tensor, batches: Points, step_size: float | Tensor, x: Tensor) -> Tensor:
    """Take the steps of `adapted` and return what phi_0 .. phi_U predict.

    Args:
        network: The network.
        phi: As in `adapted`, and so are batches and step_size.
        batches: Points of each step.
        step_size: alpha.
        x: Where to predict, ``(..., point, feature)``.

    Returns:
        ``(update, ..., point, 1)``.
    """
    return network.predict_along(phi, *batches, step_size, x)
