"""The fused engine: `kernel.cpp` on torch tensors, for networks of one input, one output and any hidden layers.

It computes one network after another, whose parameters and activations stay in cache through all of its gradient steps.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int64
from functools import cache, lru_cache

import torch
from torch import Tensor

from metabench import engine

ACTIVATIONS = ("tanh", "relu")
REALS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}


class Job(ctypes.Structure):
    """What is asked of the kernel, as it declares it: an array is where it lies and its strides over a stack."""

    _fields_ = tuple(
        (name, c_int64)
        for name in (
            *("activation", "depth", "widths", "parameters", "outer", "inner", "steps", "points", "queries"),
            *("theta", "theta_outer", "theta_inner"),
            *("v", "v_outer", "v_inner"),
            *("x", "x_outer", "x_inner", "x_step"),
            *("y", "y_outer", "y_inner", "y_step"),
            *("query", "query_outer", "query_inner", "query_step"),
            *("step_size", "step_size_outer", "step_size_inner"),
            *("result", "loss"),
        )
    )


@cache
def kernel(widths: tuple[int, ...], activation: str) -> Kernel | None:
    """Return the kernel of a network, or None where torch has to compute."""
    covered = len(widths) > 2 and widths[0] == widths[-1] == 1 and activation in ACTIVATIONS
    return Kernel(widths[1:-1], activation) if covered and engine.name() == "fused" else None


def covers(theta: Tensor) -> bool:
    """Return whether the kernel can compute a stack: of two axes at most, not empty, of a type that it knows."""
    return theta.dtype in REALS and theta.device.type == "cpu" and theta.dim() <= 3 and theta.numel() > 0


class Kernel:
    """The kernel for one shape of network. Its methods are those of `metabench.network.Network`.

    Args:
        hidden: Widths of the hidden layers.
        activation: One of `ACTIVATIONS`.
    """

    def __init__(self, hidden: tuple[int, ...], activation: str) -> None:
        self._library = engine.library()
        self._widths = (c_int64 * len(hidden))(*hidden)
        self.parameters = sum((n + 1) * m for n, m in zip((1, *hidden), (*hidden, 1), strict=True))
        self.shape = ACTIVATIONS.index(activation), len(hidden), ctypes.addressof(self._widths), self.parameters

    def predict(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate a stack of networks."""
        prediction = torch.empty(*theta.shape[:-1], *x.shape[-2:], dtype=theta.dtype)
        self._run("predict", theta, prediction, query=x[None])
        return prediction

    def loss_and_gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return each network's loss and gradient."""
        loss = torch.empty(theta.shape[:-1], dtype=theta.dtype)
        gradient = torch.empty(theta.shape, dtype=theta.dtype)
        self._run("loss_and_gradient", theta, gradient, x[None], y[None], loss=loss)
        return loss, gradient

    def summed_gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum of the gradients of the networks along the last axis of the stack."""
        *outer, _, parameters = theta.shape
        total = torch.empty(*outer, parameters, dtype=theta.dtype)
        self._run("summed_gradient", theta, total, x[None], y[None])
        return total

    def hessian_product(self, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of each network's loss times a vector."""
        product = torch.empty(theta.shape, dtype=theta.dtype)
        self._run("hessian_product", theta, product, x[None], y[None], v=v)
        return product

    def descend(self, theta: Tensor, x: Tensor, y: Tensor, step_size: float | Tensor) -> Tensor:
        """Return the parameters after a gradient step on each batch."""
        phi = torch.empty(theta.shape, dtype=theta.dtype)
        self._run("descend", theta, phi, x, y, step_size=step_size)
        return phi

    def predict_along(self, theta: Tensor, x: Tensor, y: Tensor, step_size: float | Tensor, query: Tensor) -> Tensor:
        """Return predictions before the first and after each gradient step."""
        prediction = torch.empty(len(x) + 1, *theta.shape[:-1], *query.shape[-2:], dtype=theta.dtype)
        self._run("predict_along", theta, prediction, x, y, query[None], step_size)
        return prediction

    def _run(
        self,
        what: str,
        theta: Tensor,
        result: Tensor,
        x: Tensor | None = None,
        y: Tensor | None = None,
        query: Tensor | None = None,
        step_size: float | Tensor = 0.0,
        loss: Tensor | None = None,
        v: Tensor | None = None,
    ) -> None:
        """Call the kernel for theta ``(..., P)`` and points ``(step, ..., point, 1)``, whose leading axes broadcast."""
        vectors = [t if t.stride(-1) == 1 else t.contiguous() for t in (theta, v) if t is not None]
        points = [p if p.stride(-2) == 1 else p.contiguous() for p in (x, y, query) if p is not None]
        lie = [(t.dtype, t.shape, t.stride()) for t in (*vectors, *points)]
        job = Job.from_buffer_copy(_job(self, v is not None, x is not None, *lie))  # a copy: other threads ask too
        job.theta, job.result = vectors[0].data_ptr(), result.data_ptr()
        if v is not None:
            job.v = vectors[1].data_ptr()
        if x is not None:
            job.x, job.y = points[0].data_ptr(), points[1].data_ptr()
        if query is not None:
            job.query = points[-1].data_ptr()
        if isinstance(step_size, Tensor):
            alphas = step_size.to(theta.dtype).expand(theta.shape[:-1]).reshape(job.outer, job.inner)
            job.step_size, (job.step_size_outer, job.step_size_inner) = alphas.data_ptr(), alphas.stride()
        else:
            number = REALS[theta.dtype](step_size)
            job.step_size, job.step_size_outer, job.step_size_inner = ctypes.addressof(number), 0, 0
        job.loss = 0 if loss is None else loss.data_ptr()
        if getattr(self._library, f"{what}_{str(theta.dtype)[6:]}")(ctypes.byref(job)):
            raise MemoryError(f"not enough memory for a network of {self.parameters} parameters at {job.points} points")


Axes = tuple[int, ...]
Lie = tuple[torch.dtype, Axes, Axes]
"""Type, shape and strides of a tensor."""


@lru_cache(maxsize=1000)
def _job(kernel: Kernel, directed: bool, labelled: bool, *lie: Lie) -> Job:
    """Return the job of a call but for where its arrays lie; shapes and strides hardly ever change in training.

    Args:
        kernel: Whose.
        directed: Whether v comes after the parameters.
        labelled: Whether the first two points are x and y of the steps; points to predict at come last.
        lie: Type, shape and strides of each: parameters and v, ``(..., P)``, and points, ``(step, ..., point, 1)``.

    Raises:
        TypeError: They are of different types.
        ValueError: The shapes do not fit each other.
    """
    types = [dtype for dtype, _, _ in lie]
    if len(set(types)) > 1:
        raise TypeError(f"parameters and points must be of one type, got {', '.join(map(str, types))}")
    vectors, points = lie[: 1 + directed], lie[1 + directed :]
    shapes = [shape for _, shape, _ in points]
    steps, *_, count, _ = shapes[0] if labelled else (0, 0, 0)
    query = shapes[-1] if len(shapes) != 2 else (0, 0)
    alike = not labelled or (shapes[0][0], shapes[0][-2]) == (shapes[1][0], shapes[1][-2])
    flat = all(shape[-1] == kernel.parameters for _, shape, _ in vectors)
    if not flat or not alike or any(shape[-1] != 1 for shape in shapes):
        described = ", ".join(str(tuple(shape)) for _, shape, _ in lie)
        raise ValueError(f"a network of {kernel.parameters} parameters cannot take parameters and points {described}")
    stack = lie[0][1][:-1]
    outer, inner = (1, 1, *stack)[-2:]
    job = Job(*kernel.shape, outer, inner, steps, count, query[-2])
    for name, (_, shape, strides) in zip(("theta", "v"), vectors, strict=False):
        along = _over_stack(stack, shape[:-1], strides[:-1])
        for axis, stride in zip(("outer", "inner"), along, strict=True):
            setattr(job, f"{name}_{axis}", stride)
    names = ("x", "y", "query") if labelled else ("query",)
    for name, (_, shape, strides) in zip(names, points, strict=False):
        along = (*_over_stack(stack, shape[1:-2], strides[1:-2]), strides[0])
        for axis, stride in zip(("outer", "inner", "step"), along, strict=True):
            setattr(job, f"{name}_{axis}", stride)
    return job


def _over_stack(stack: Axes, sizes: Axes, strides: Axes) -> Axes:
    """Return strides over the two axes of a stack, 0 where one is missing or broadcasts."""
    axes = list(zip((1, 1, *sizes)[-2:], (0, 0, *strides)[-2:], (1, 1, *stack)[-2:], strict=True))
    if len(sizes) > 2 or any(size not in (1, whole) for size, _, whole in axes):
        raise ValueError(f"axes {tuple(sizes)} do not broadcast to a stack of {tuple(stack)}")
    return tuple(0 if size == 1 else stride for size, stride, _ in axes)
