"""The fused engine: `kernel.cpp` on torch tensors.

It computes networks with hidden layers, one at a time. So a network's parameters and activations
stay in cache through all of its gradient steps.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import c_int64
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from metabench.learning import engine
from metabench.learning.engine.calls import C_TYPES, run
from metabench.learning.engine.heads import MetaBatch, Sets
from metabench.learning.step_sizes import Descent, Maps, Sizes, StepSize, Weights

ACTIVATIONS = ("tanh", "relu")


def kernel(widths: tuple[int, ...], activation: str) -> Kernel | None:
    """Return the kernel of a network, or None if torch has to compute it."""
    return _kernel(widths, activation) if engine.name() == "fused" else None


@cache
def _kernel(widths: tuple[int, ...], activation: str) -> Kernel | None:
    covered = len(widths) > 2 and activation in ACTIVATIONS
    return Kernel(widths, activation) if covered else None


def covers(theta: Tensor) -> bool:
    """Return whether the kernel can compute a stack.

    The stack must have at most two axes, must not be empty, and its type must be float32 or
    float64.
    """
    return theta.dtype in C_TYPES and theta.is_cpu and theta.dim() <= 3 and theta.numel() > 0


class Kernel:
    """The kernel for one shape of network.

    Its methods are those of `metabench.learning.network.Network`.

    Args:
        widths: Features of the input, of each hidden layer, and of the output.
        activation: One of `ACTIVATIONS`.
    """

    def __init__(self, widths: tuple[int, ...], activation: str) -> None:
        self._library = engine.library()
        inputs, *hidden, outputs = widths
        self.widths, self.hidden = widths, sum(hidden)
        self._hidden = (c_int64 * len(hidden))(*hidden)  # kept here, since shape has its address
        self.parameters = sum((n + 1) * m for n, m in pairwise(widths))
        self.shape = (
            ACTIVATIONS.index(activation),
            inputs,
            outputs,
            len(hidden),
            ctypes.addressof(self._hidden),
            self.parameters,
        )

    def function(self, operation: str, dtype: torch.dtype) -> Callable[[object], int]:
        """Return a function of the library for one type of numbers."""
        return getattr(self._library, f"{operation}_{str(dtype).removeprefix('torch.')}")

    def predict(self, theta: Tensor, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Evaluate a stack of networks."""
        prediction = self._points(theta, x)
        shifted = {} if shift is None else {"shift": shift}
        run(self, "predict", prediction, {"theta": theta, "query": x, **shifted})
        return prediction

    def loss_and_gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return each network's loss and gradient."""
        loss, gradient = torch.empty(theta.shape[:-1], dtype=theta.dtype), _like(theta)
        arrays = {"theta": theta, "query": x, "labels": y}
        run(self, "loss_and_gradient", gradient, arrays, second=loss)
        return loss, gradient

    def hessian_product(self, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of each network's loss times a vector."""
        product = _like(theta)
        run(self, "hessian_product", product, {"theta": theta, "v": v, "query": x, "labels": y})
        return product

    def descend(self, theta: Tensor, x: Tensor, y: Tensor, step_size: StepSize) -> Tensor:
        """Return the parameters after one gradient step on each batch."""
        phi = _like(theta)
        run(self, "descend", phi, {"theta": theta, "x": x, "y": y}, step_size)
        return phi

    def summed_gradient(
        self, theta: Tensor, x: Tensor, y: Tensor, after: Descent | None = None
    ) -> Tensor:
        """Return the gradients after a descent, summed along the last axis of the stack."""
        total = self._summed(theta)
        arrays = {"theta": theta, "query": x, "labels": y}
        step_size: StepSize = 0.0
        if after is not None:
            arrays["x"], arrays["y"], step_size = after
        run(self, "summed_gradient", total, arrays, step_size)
        return total

    def shifted_gradient(
        self, theta: Tensor, shift: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the summed gradients of shifted networks, and each gradient along its shift."""
        total, along = self._summed(theta), self._shifts(theta)
        arrays = {"theta": theta, "shift": shift, "query": x, "labels": y}
        run(self, "summed_gradient", total, arrays, second=along)
        return total, along

    def gradient_along_shift(self, theta: Tensor, shift: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of each network's loss along its shift."""
        along = self._shifts(theta)
        arrays = {"theta": theta, "shift": shift, "query": x, "labels": y}
        run(self, "gradient_along_shift", along, arrays)
        return along

    def hidden_layers(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the activations of all hidden layers, concatenated."""
        hidden = theta.new_empty(*theta.shape[:-1], x.shape[-2] * self.hidden)
        run(self, "features", hidden, {"theta": theta, "query": x})
        return hidden

    def pulled_back(self, theta: Tensor, x: Tensor, hidden: Tensor, cotangent: Tensor) -> Tensor:
        """Return each network's gradient of sum(cotangent * last hidden layer)."""
        assert not self.widths[-1]  # the kernel leaves an output layer as it is
        gradient = _like(theta)
        flat = cotangent.flatten(-2)
        arrays = {"theta": theta, "query": x, "hidden": hidden, "v": flat}
        run(self, "pulled_back", gradient, arrays)
        return gradient

    def predict_along(
        self, theta: Tensor, descent: Descent, query: Tensor, measured: Sequence[int]
    ) -> Tensor:
        """Return predictions after some numbers of gradient steps."""
        x, y, step_size = descent
        count, outputs = len(measured), self.widths[-1]
        shape = count, *theta.shape[:-1], query.shape[-2], outputs
        prediction = torch.empty(shape, dtype=theta.dtype)
        arrays = {"theta": theta, "x": x, "y": y, "query": query}
        numbers = (c_int64 * count)(*measured)
        run(self, "predict_along", prediction, arrays, step_size, number=count, measured=numbers)
        return prediction

    def gradient_through(
        self,
        theta: Tensor,
        descent: Descent,
        x: Tensor,
        y: Tensor,
        weights: Weights,
        second_order: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the summed gradients through a descent, for theta and for step sizes or maps."""
        total, along = self._summed(theta), None
        batches_x, batches_y, step_size = descent
        if isinstance(step_size, Sizes):
            kinds, *_, length = step_size.values.shape
            along = theta.new_empty(*theta.shape[:-2], kinds, length)
        elif isinstance(step_size, Maps):
            along = theta.new_empty(*theta.shape[:-2], step_size.values.shape[-1])
        arrays = {"theta": theta, "x": batches_x, "y": batches_y, "query": x, "labels": y}
        run(
            self,
            "gradient_through",
            total,
            arrays,
            step_size,
            along,
            weights=weights,
            first_order=not second_order,
        )
        return total, along

    def gradient_through_head(
        self, theta: Tensor, tasks: MetaBatch, step_size: float, steps: int
    ) -> Tensor:
        """Return the gradient of the query losses, where each task's head takes gradient steps."""
        gradient, arrays = _like(theta), {"theta": theta, **_meta_batch_arrays(*tasks)}
        run(self, "gradient_through_head", gradient, arrays, step_size, number=steps)
        return gradient

    def gradient_through_ridge(
        self, theta: Tensor, weight: Tensor, tasks: MetaBatch
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the query losses, where each task's head is fitted by ridge."""
        gradient = _like(theta)
        along_log = torch.empty(theta.shape[:-1], dtype=theta.dtype)
        arrays = {"theta": theta, **_meta_batch_arrays(*tasks)}
        run(self, "gradient_through_ridge", gradient, arrays, weight, along_log)
        return gradient, along_log

    def gradient_through_context(
        self, theta: Tensor, weight: Tensor, tasks: MetaBatch, step_size: float, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the query losses, where each task's context takes steps."""
        gradient = _like(theta)
        shape = *theta.shape[:-1], weight.shape[-2], self.widths[1]
        if weight.shape[-1] != self.widths[1]:
            raise ValueError(f"weights of a context must be {shape}, got {tuple(weight.shape)}")
        along = torch.empty(shape, dtype=theta.dtype)
        arrays = {"theta": theta, "v": weight.flatten(-2), **_meta_batch_arrays(*tasks)}
        run(self, "gradient_through_context", gradient, arrays, step_size, along, steps)
        return gradient, along

    def _points(self, theta: Tensor, x: Tensor) -> Tensor:
        """Allocate an output for each point of each network."""
        return torch.empty(*theta.shape[:-1], x.shape[-2], self.widths[-1], dtype=theta.dtype)

    def _summed(self, theta: Tensor) -> Tensor:
        """Allocate a vector like theta, summed along the last axis of the stack."""
        return torch.empty(*theta.shape[:-2], theta.shape[-1], dtype=theta.dtype)

    def _shifts(self, theta: Tensor) -> Tensor:
        """Allocate a shift for each network."""
        return torch.empty(*theta.shape[:-1], self.widths[1], dtype=theta.dtype)


def _like(theta: Tensor) -> Tensor:
    """Allocate a tensor like theta, which takes less time than `torch.empty` with a shape."""
    return torch.empty_like(theta, memory_format=torch.contiguous_format)


def _meta_batch_arrays(support: Sets, query: Sets) -> dict[str, Tensor]:
    """Return the arrays of meta-batch jobs. Tasks come first, and may share x of the query sets."""
    x, y = (t.movedim(-3, 0) for t in support)
    query_x, query_y = query[0], query[1].movedim(-3, 0)
    shared = query_x.dim() == 2  # expand gives it a stride of 0 over tasks, which the kernel reads
    by_task = query_x.expand(len(x), *query_x.shape) if shared else query_x.movedim(-3, 0)
    return {"x": x, "y": y, "task_query": by_task, "task_labels": query_y}
