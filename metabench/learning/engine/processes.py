"""The marginal likelihood of Gaussian processes on features: one call of the kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int64
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metabench.learning import engine
from metabench.learning.engine.calls import C_TYPES


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


class Job(ctypes.Structure):
    """A call of the kernel: the same fields in the same order as `Processes` in kernel.cpp."""

    _fields_ = tuple(
        (name, c_int64)
        for name in (
            *("runs", "tasks", "points", "width", "components", "stride", "h", "y"),
            *("mean", "noise", "weight", "scale", "frequency"),
            *("along_h", "along_mean", "along_noise"),
            *("along_weight", "along_scale", "along_frequency"),
        )
    )


def covers(features: Tensor, y: Tensor) -> bool:
    """Return whether the kernel can compute the gradients."""
    type_fits = features.dtype == y.dtype and features.dtype in C_TYPES and features.is_cpu
    differentiable = features.requires_grad or y.requires_grad  # autograd cannot see into it
    return type_fits and not differentiable and engine.name() == "fused"


def gradients(
    features: Tensor, y: Tensor, mean: Tensor, noise: Tensor, kernel: Mixture
) -> tuple[Tensor, Tensor, Tensor, Mixture]:
    """Return the gradients of the mean negative log marginal likelihood of a point.

    Args:
        features: Features of the points, ``(run, task, point, width)``.
        y: Their labels, ``(run, task, point, 1)``.
        mean: The prior mean, float64, ``(run, ...)`` with one number for each run.
        noise: The variance of the noise, likewise.
        kernel: The kernel, for each run.

    Returns:
        The gradients along the features, ``(run, task, point, width)``, and, summed over tasks,
        along the mean and the noise, ``(run, 1)`` each, and the kernel.

    Raises:
        MemoryError: The kernel could not allocate its workspace.
    """
    runs, tasks, points, width = features.shape
    if features[0].stride() != (points * width, width, 1):
        features = features.contiguous()
    kernel = kernel.each(Tensor.contiguous)
    y, mean, noise = (t.contiguous() for t in (y, mean, noise))
    along_features = features.new_empty(features.shape)
    along_mean, along_noise = (torch.zeros(runs, 1, dtype=torch.float64) for _ in range(2))
    along = kernel.each(torch.zeros_like)
    arrays = features, y, mean, noise, *kernel, along_features, along_mean, along_noise, *along
    addresses = [0 if t is None else t.data_ptr() for t in arrays]
    components = kernel.weight.shape[-1]
    job = Job(runs, tasks, points, width, components, features.stride(0), *addresses)
    if _function(features.dtype)(ctypes.byref(job)):
        raise MemoryError(f"not enough memory for a Gaussian process at {points} points")
    return along_features, along_mean, along_noise, along


@cache
def _function(dtype: torch.dtype) -> Callable[..., int]:
    """Return the kernel's function for one type of numbers."""
    library: Any = engine.library()
    return getattr(library, f"marginal_gradient_{str(dtype).removeprefix('torch.')}")
