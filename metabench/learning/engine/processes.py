"""The marginal likelihood of Gaussian processes on features: one call of the kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int64
from typing import NamedTuple

import torch
from torch import Tensor

from metabench.learning.engine.calls import require_fit, run
from metabench.learning.engine.fused import Kernel


class Mixture(NamedTuple):
    """A kernel that is a sum of components, or the gradients along what defines it; float64.

    k(h, h') = sum_q w_q exp(-|s_q * (h - h')|^2 / 2) cos(m_q . (h - h'))
    """

    weight: Tensor
    """w, ``(..., Q)``; the gradient is along log w."""
    scale: Tensor
    """s, ``(..., Q, width)``; the gradient is along log s."""
    frequency: Tensor | None
    """m, ``(..., Q, width)``, in radians per unit of a feature; None if there is no cosine."""

    def each(self, function: Callable[[Tensor], Tensor]) -> Mixture:
        """Return the mixture with a function of each of its tensors."""
        frequency = None if self.frequency is None else function(self.frequency)
        return Mixture(function(self.weight), function(self.scale), frequency)


class Processes(ctypes.Structure):
    """A part of a call: the same fields in the same order as `Processes` in kernel.cpp."""

    _fields_ = tuple(
        (name, c_int64)
        for name in (
            *("tasks", "points", "width", "components", "y"),
            *("mean", "noise", "weight", "scale", "frequency", "along_mean", "along_noise"),
            *("along_weight", "along_scale", "along_frequency"),
        )
    )


def gradients(
    trunk: Kernel, theta: Tensor, x: Tensor, y: Tensor, mean: Tensor, noise: Tensor, kernel: Mixture
) -> tuple[Tensor, Tensor, Tensor, Mixture]:
    """Return the gradients of the mean negative log marginal likelihood of a point.

    Args:
        trunk: The kernel of networks without outputs, whose features the points have.
        theta: ``(run, P)``.
        x: Points, ``(run, task, point, feature)``, of the type of theta.
        y: Their labels, ``(run, task, point, 1)``, likewise.
        mean: The prior mean, float64, ``(run, 1)``.
        noise: The variance of the noise, likewise.
        kernel: The kernel, for each run.

    Returns:
        The gradients, summed over tasks, along theta ``(run, P)``, the mean and the noise,
        ``(run, 1)`` each, and the kernel.

    Raises:
        MemoryError: The kernel could not allocate its workspace.
        TypeError, ValueError: Types or shapes do not fit each other.
    """
    runs, tasks, points, _ = x.shape
    width, components = trunk.widths[-2], kernel.weight.shape[-1]
    require_fit("y", y, theta.dtype, runs, tasks, points, 1)
    for name, t in {"mean": mean, "noise": noise}.items():
        require_fit(name, t, torch.float64, runs, 1)
    require_fit("weight", kernel.weight, torch.float64, runs, components)
    for name, array in {"scale": kernel.scale, "frequency": kernel.frequency}.items():
        if array is not None:
            require_fit(name, array, torch.float64, runs, components, width)
    kernel = kernel.each(Tensor.contiguous)
    y, mean, noise = (t.contiguous() for t in (y, mean, noise))
    along_mean, along_noise = torch.zeros(2, runs, 1, dtype=torch.float64)
    along = kernel.each(torch.zeros_like)
    arrays = y, mean, noise, *kernel, along_mean, along_noise, *along
    addresses = [0 if t is None else t.data_ptr() for t in arrays]
    described = Processes(tasks, points, width, components, *addresses)
    along_theta = theta.new_empty(theta.shape)
    run(
        trunk,
        "gradient_of_processes",
        along_theta,
        {"theta": theta, "query": x.flatten(1, 2)},
        processes=ctypes.addressof(described),
    )
    return along_theta, along_mean, along_noise, along
