"""The outer update by Adam: one pass of the kernel over torch tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int64
from functools import cache
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from metabench.learning import engine
from metabench.learning.engine.calls import C_TYPES


def covers(theta: Tensor, gradient: Tensor, memory: Tensor) -> bool:
    """Return whether the kernel can compute the outer update."""
    tensors = theta, gradient, memory
    shapes_fit = gradient.shape == theta.shape and memory.shape == (2, *theta.shape)
    types = {t.dtype for t in tensors}
    type_fits = len(types) == 1 and types <= C_TYPES.keys() and theta.is_cpu
    differentiable = any(t.requires_grad for t in tensors)  # autograd cannot see into the kernel
    return shapes_fit and type_fits and not differentiable and engine.name() == "fused"


def adam(
    theta: Tensor,
    gradient: Tensor,
    memory: Tensor,
    size: float,
    decays: tuple[float, float],
    epsilon: float,
    done: int,
) -> tuple[Tensor, Tensor]:
    """Return theta after a step of Adam, and both moments, in one pass over memory.

    Args:
        theta: Parameters, of any shape.
        gradient: Gradient, of theta's shape.
        memory: Both moments, each of theta's shape.
        size: Step size.
        decays: Decay rates of the two moments.
        epsilon: Added to the root of the second moment.
        done: Number of earlier steps.
    """
    theta, gradient, memory = (t.contiguous() for t in (theta, gradient, memory))
    new_theta, new_memory = torch.empty_like(theta), torch.empty_like(memory)
    correction1, correction2 = (1 - decay ** (done + 1) for decay in decays)
    _adam(theta.dtype)(
        theta.numel(),
        theta.data_ptr(),
        gradient.data_ptr(),
        memory.data_ptr(),
        new_theta.data_ptr(),
        new_memory.data_ptr(),
        *decays,
        size / correction1,
        1 / sqrt(correction2),
        epsilon,
    )
    return new_theta, new_memory


@cache
def _adam(dtype: torch.dtype) -> Callable[..., int]:
    """Return the kernel's function for one type of numbers."""
    function: Any = getattr(engine.library(), f"adam_{str(dtype).removeprefix('torch.')}")
    function.argtypes = [c_int64, *[ctypes.c_void_p] * 5, *[ctypes.c_double] * 5]
    return function
