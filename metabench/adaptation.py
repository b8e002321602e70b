"""The inner loop, which exists once: training takes its last parameters, evaluation measures each of them.

    phi_0 = theta,    phi_{u+1} = phi_u - alpha grad L(phi_u; batch_u)

Reference: Finn et al. 2017, arXiv:1703.03400, equation 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
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

    def to(self, dtype: torch.dtype) -> Points:
        """Return both as another floating-point type."""
        return Points(self.x.to(dtype), self.y.to(dtype))


def one_copy_per_task(theta: Tensor, tasks: int) -> Tensor:
    """Repeat each initialization ``(run, P)`` for its tasks, ``(run, task, P)``.

    Without a copy of its own for each task, broadcasting would add up the gradients of different tasks silently.
    """
    return theta.unsqueeze(-2).expand(*theta.shape[:-1], tasks, theta.shape[-1])


def adapt(network: Network, phi: Tensor, batches: Iterable[Points], step_size: float | Tensor) -> Iterator[Tensor]:
    """Take one gradient step a batch, from phi, and yield all parameters on the way.

    Args:
        network: The network.
        phi: Parameters to begin with, ``(..., P)``. Not changed.
        batches: Points of each step, ``(..., point, feature)``: the same ones again for full-batch descent.
        step_size: alpha; one number, or one for each network, ``(...,)``.

    Yields:
        phi_0 (phi itself), phi_1, ..., phi_U, each ``(..., P)``.
    """
    yield phi
    for batch in batches:
        _, gradient = network.loss_and_gradient(phi, *batch)
        phi = descend(phi, gradient, step_size)
        yield phi


def descend(phi: Tensor, gradient: Tensor, step_size: float | Tensor) -> Tensor:
    """Return phi - step_size * gradient, ``(..., P)``, in one pass over memory."""
    if isinstance(step_size, Tensor):
        return torch.addcmul(phi, gradient, step_size[..., None], value=-1)
    return torch.sub(phi, gradient, alpha=step_size)


def adapted(network: Network, phi: Tensor, batches: Iterable[Points], step_size: float | Tensor) -> Tensor:
    """Return the last parameters of `adapt`, ``(..., P)``."""
    return deque(adapt(network, phi, batches, step_size), maxlen=1).pop()
