"""The fused engine: `kernel.cpp` on torch tensors.

It is for networks of one input, one output and any hidden layers.

It computes one network after another, whose parameters and activations stay in cache through all of
its gradient steps.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int64
from functools import cache, lru_cache

import torch
from torch import Tensor

from metabench.learning import engine

ACTIVATIONS = ("tanh", "relu")
REALS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}


class Job(ctypes.Structure):
    """What is asked of the kernel, as it declares it.

    An array is where it lies and its strides over a stack.
    """

    _fields_ = tuple(
        (name, c_int64)
        for name in (
            *(
                "activation",
                "depth",
                "widths",
                "parameters",
                "outer",
                "inner",
                "steps",
                "points",
                "queries",
            ),
            *("theta", "theta_outer", "theta_inner"),
            *("v", "v_outer", "v_inner"),
            *("x", "x_outer", "x_inner", "x_step"),
            *("y", "y_outer", "y_inner", "y_step"),
            *("step_size", "step_size_outer", "step_size_inner"),
            *("query", "query_outer", "query_inner"),
            *("labels", "labels_outer", "labels_inner"),
            *("result", "loss"),
        )
    )


VECTORS = ("theta", "v")
"""Arrays of a job that are ``(..., P)``; the others are points."""

BATCHES = ("x", "y")
"""Points of the steps and their labels, ``(step, ..., point, 1)``; query points and theirs are
``(..., point, 1)``.
"""

Descent = tuple[Tensor, Tensor, float | Tensor]
"""Steps to take: x and y of each, and their size."""


def kernel(widths: tuple[int, ...], activation: str) -> Kernel | None:
    """Return the kernel of a network, or None where torch has to compute."""
    return _kernel(widths, activation) if engine.name() == "fused" else None


@cache
def _kernel(widths: tuple[int, ...], activation: str) -> Kernel | None:
    covered = len(widths) > 2 and widths[0] == widths[-1] == 1 and activation in ACTIVATIONS
    return Kernel(widths[1:-1], activation) if covered else None


def covers(theta: Tensor) -> bool:
    """Return whether the kernel can compute a stack.

    It has two axes at most, is not empty, and is of a type that the kernel knows.
    """
    return theta.dtype in REALS and theta.is_cpu and theta.dim() <= 3 and theta.numel() > 0


class Kernel:
    """The kernel for one shape of network.

    Its methods are those of `metabench.learning.network.Network`.

    Args:
        hidden: Widths of the hidden layers.
        activation: One of `ACTIVATIONS`.
    """

    def __init__(self, hidden: tuple[int, ...], activation: str) -> None:
        self._library = engine.library()
        self._widths = (c_int64 * len(hidden))(*hidden)
        self.parameters = sum((n + 1) * m for n, m in zip((1, *hidden), (*hidden, 1), strict=True))
        self.shape = (
            ACTIVATIONS.index(activation),
            len(hidden),
            ctypes.addressof(self._widths),
            self.parameters,
        )

    def function(self, what: str, dtype: torch.dtype) -> Callable[[object], int]:
        """Return a function of the library, for numbers of a type."""
        return getattr(self._library, f"{what}_{str(dtype).removeprefix('torch.')}")

    def predict(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate a stack of networks."""
        prediction = torch.empty(*theta.shape[:-1], *x.shape[-2:], dtype=theta.dtype)
        self._run("predict", prediction, theta=theta, query=x)
        return prediction

    def loss_and_gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return each network's loss and gradient."""
        loss, gradient = torch.empty(theta.shape[:-1], dtype=theta.dtype), _like(theta)
        self._run("loss_and_gradient", gradient, loss=loss, theta=theta, query=x, labels=y)
        return loss, gradient

    def hessian_product(self, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of each network's loss times a vector."""
        product = _like(theta)
        self._run("hessian_product", product, theta=theta, v=v, query=x, labels=y)
        return product

    def descend(self, theta: Tensor, x: Tensor, y: Tensor, step_size: float | Tensor) -> Tensor:
        """Return the parameters after a gradient step on each batch."""
        phi = _like(theta)
        self._run("descend", phi, step_size, theta=theta, x=x, y=y)
        return phi

    def summed_gradient(
        self, theta: Tensor, x: Tensor, y: Tensor, after: Descent | None = None
    ) -> Tensor:
        """Return the sum along the last axis of the stack of the gradients after some steps."""
        total = torch.empty(*theta.shape[:-2], theta.shape[-1], dtype=theta.dtype)
        if after is None:
            self._run("summed_gradient", total, theta=theta, query=x, labels=y)
        else:
            batches_x, batches_y, step_size = after
            self._run(
                "summed_gradient",
                total,
                step_size,
                theta=theta,
                x=batches_x,
                y=batches_y,
                query=x,
                labels=y,
            )
        return total

    def predict_along(
        self, theta: Tensor, x: Tensor, y: Tensor, step_size: float | Tensor, query: Tensor
    ) -> Tensor:
        """Return predictions before the first and after each gradient step."""
        prediction = torch.empty(
            len(x) + 1, *theta.shape[:-1], *query.shape[-2:], dtype=theta.dtype
        )
        self._run("predict_along", prediction, step_size, theta=theta, x=x, y=y, query=query)
        return prediction

    def _run(
        self,
        what: str,
        result: Tensor,
        step_size: float | Tensor = 0.0,
        loss: Tensor | None = None,
        **arrays: Tensor,
    ) -> None:
        """Call the kernel for arrays of `VECTORS` and points.

        Their leading axes broadcast to those of theta.
        """
        lie = [(name, t.dtype, t.shape, t.stride()) for name, t in arrays.items()]
        prepared, function, scattered = _prepared(self, what, *lie)
        if scattered:
            gathered = {name: arrays[name].contiguous() for name in scattered}
            return self._run(what, result, step_size, loss, **(arrays | gathered))
        job = Job.from_buffer_copy(prepared)  # a copy: other threads ask too
        for name, t in arrays.items():
            setattr(job, name, t.data_ptr())
        job.result = result.data_ptr()
        if loss is not None:
            job.loss = loss.data_ptr()
        theta = arrays["theta"]
        if isinstance(step_size, Tensor):
            alphas = (
                step_size.to(theta.dtype).expand(theta.shape[:-1]).reshape(job.outer, job.inner)
            )
            job.step_size, (job.step_size_outer, job.step_size_inner) = (
                alphas.data_ptr(),
                alphas.stride(),
            )
        else:
            number = REALS[theta.dtype](step_size)
            job.step_size = ctypes.addressof(number)
        if function(ctypes.byref(job)):
            points = max(job.points, job.queries)
            raise MemoryError(
                f"not enough memory for a network of {self.parameters} parameters at {points} points"
            )


def _like(theta: Tensor) -> Tensor:
    """Return memory for as many parameters, faster than `torch.empty` does."""
    return torch.empty_like(theta, memory_format=torch.contiguous_format)


Axes = tuple[int, ...]
Lie = tuple[str, torch.dtype, Axes, Axes]
"""Name, type, shape and strides of an array."""


@lru_cache(maxsize=1000)
def _prepared(
    kernel: Kernel, what: str, *lie: Lie
) -> tuple[Job, Callable[[object], int], list[str]]:
    """Return a call's job without where its arrays lie, its function, and what to copy first.

    Those are the ones whose vectors, or columns of points, do not lie in one piece. Shapes and
    strides hardly ever change in training.

    Args:
        kernel: Whose.
        what: Name of the function.
        lie: Of theta and the other arrays.

    Raises:
        TypeError: They are of different types.
        ValueError: The shapes do not fit each other.
    """
    types = [dtype for _, dtype, _, _ in lie]
    if len(set(types)) > 1:
        raise TypeError(
            f"parameters and points must be of one type, got {', '.join(map(str, types))}"
        )
    shapes = {name: shape for name, _, shape, _ in lie}
    fit = all(
        shape[-1] == (kernel.parameters if name in VECTORS else 1) for name, shape in shapes.items()
    )
    batches = {(shape[0], shape[-2]) for name, shape in shapes.items() if name in BATCHES}
    queries = {shape[-2] for name, shape in shapes.items() if name not in (*VECTORS, *BATCHES)}
    if not fit or len(batches) > 1 or len(queries) > 1:
        described = ", ".join(str(tuple(shape)) for shape in shapes.values())
        raise ValueError(
            f"a network of {kernel.parameters} parameters cannot take parameters and points {described}"
        )
    stack = shapes["theta"][:-1]
    along = {
        name: -1 if name in VECTORS else -2 for name in shapes
    }  # the axis of parameters, or of points
    job = Job(
        *kernel.shape, *(1, 1, *stack)[-2:], *next(iter(batches), (0, 0)), next(iter(queries), 0)
    )
    for name, _, shape, strides in lie:
        over = slice(1 if name in BATCHES else 0, along[name])  # of its axes, those of the stack
        outer, inner = _over_stack(stack, shape[over], strides[over])
        setattr(job, f"{name}_outer", outer)
        setattr(job, f"{name}_inner", inner)
        if name in BATCHES:
            setattr(job, f"{name}_step", strides[0])
    many = [name for name, shape in shapes.items() if shape[along[name]] > 1 and 0 not in shape]
    scattered = [name for name, _, _, strides in lie if name in many and strides[along[name]] != 1]
    return job, kernel.function(what, types[0]), scattered


def _over_stack(stack: Axes, sizes: Axes, strides: Axes) -> Axes:
    """Return strides over the two axes of a stack, 0 where one is missing or broadcasts."""
    axes = list(zip((1, 1, *sizes)[-2:], (0, 0, *strides)[-2:], (1, 1, *stack)[-2:], strict=True))
    if len(sizes) > 2 or any(size not in (1, whole) for size, _, whole in axes):
        raise ValueError(f"axes {tuple(sizes)} do not broadcast to a stack of {tuple(stack)}")
    return tuple(0 if size == 1 else stride for size, stride, _ in axes)
