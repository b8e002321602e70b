"""The outer update by Adam: the kernel's pass over memory on torch tensors."""

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
from metabench.learning.engine.calls import REALS


def covers(theta: Tensor, gradient: Tensor, memory: Tensor) -> bool:
    """Return whether the kernel does the outer update of theta, its gradient and both moments."""
    tensors = theta, gradient, memory
    alike = gradient.shape == theta.shape and memory.shape == (2, *theta.shape)
    types = {t.dtype for t in tensors}
    plain = len(types) == 1 and types <= REALS.keys() and theta.is_cpu
    watched = any(t.requires_grad for t in tensors)
    return alike and plain and not watched and engine.name() == "fused"


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
        theta: Any shape; gradient is alike.
        gradient: What the step goes against.
        memory: Both moments, of theta's shape each.
        size: Of the step.
        decays: Of the moments.
        epsilon: Added to the root of the second.
        done: Steps taken before.
    """
    theta, gradient, memory = (t.contiguous() for t in (theta, gradient, memory))
    moved, remembered = torch.empty_like(theta), torch.empty_like(memory)
    correction1, correction2 = (1 - decay ** (done + 1) for decay in decays)
    _adam(theta.dtype)(
        theta.numel(),
        theta.data_ptr(),
        gradient.data_ptr(),
        memory.data_ptr(),
        moved.data_ptr(),
        remembered.data_ptr(),
        *decays,
        size / correction1,
        1 / sqrt(correction2),
        epsilon,
    )
    return moved, remembered


@cache
def _adam(dtype: torch.dtype) -> Callable[..., int]:
    """Return the kernel's function for numbers of a type."""
    function: Any = getattr(engine.library(), f"adam_{str(dtype).removeprefix('torch.')}")
    function.argtypes = [c_int64, *[ctypes.c_void_p] * 5, *[ctypes.c_double] * 5]
    return function
