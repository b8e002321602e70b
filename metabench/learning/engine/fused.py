"""The fused engine: `kernel.cpp` on torch tensors.

It is for networks with hidden layers, and computes one network after another, whose parameters and
activations stay in cache through all of its gradient steps.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int64
from functools import cache, lru_cache
from itertools import pairwise
from math import sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metabench.learning import engine
from metabench.learning.engine.heads import Sets
from metabench.learning.step_sizes import Sizes

ACTIVATIONS = ("tanh", "relu")
REALS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}


class Lies(NamedTuple):
    """How an array of a job lies: ``([step,] ..., *own)``, where ... is a stack or broadcasts to it."""

    own: int
    """How many axes are its own, after those of the stack."""
    steps: bool = False
    """Whether its first axis is that of the steps."""


ARRAYS = {
    "theta": Lies(1),
    "v": Lies(1),
    "x": Lies(2, steps=True),
    "y": Lies(2, steps=True),
    "sizes": Lies(1, steps=True),
    "query": Lies(2),
    "labels": Lies(2),
    "shift": Lies(1),
    "hidden": Lies(1),
    "asked": Lies(2, steps=True),
    "answers": Lies(2, steps=True),
}
"""The arrays of a job, in its order. Points are ``(point, feature)``, all else is a vector.

Where a head adapts, tasks take the place of steps: each has points x and y and is asked others.
"""


def _fields() -> tuple[tuple[str, type[c_int64]], ...]:
    names = ["activation", "inputs", "outputs", "depth", "widths", "parameters"]
    names += ["outer", "inner", "steps", "points", "queries", "length", "every"]
    for name, lies in ARRAYS.items():
        names += [name, f"{name}_outer", f"{name}_inner"] + [f"{name}_step"] * lies.steps
    return tuple((name, c_int64) for name in (*names, "result", "second"))


class Job(ctypes.Structure):
    """What is asked of the kernel, as it declares it.

    An array is where it lies and its strides over a stack.
    """

    _fields_ = _fields()


def kernel(widths: tuple[int, ...], activation: str) -> Kernel | None:
    """Return the kernel of a network, or None where torch has to compute."""
    return _kernel(widths, activation) if engine.name() == "fused" else None


@cache
def _kernel(widths: tuple[int, ...], activation: str) -> Kernel | None:
    covered = len(widths) > 2 and activation in ACTIVATIONS
    return Kernel(widths, activation) if covered else None


def covers(theta: Tensor) -> bool:
    """Return whether the kernel can compute a stack.

    It has two axes at most, is not empty, and is of a type that the kernel knows.
    """
    return theta.dtype in REALS and theta.is_cpu and theta.dim() <= 3 and theta.numel() > 0


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
        self._hidden = (c_int64 * len(hidden))(*hidden)
        self.parameters = sum((n + 1) * m for n, m in pairwise(widths))
        self.shape = (
            ACTIVATIONS.index(activation),
            inputs,
            outputs,
            len(hidden),
            ctypes.addressof(self._hidden),
            self.parameters,
        )

    def function(self, what: str, dtype: torch.dtype) -> Callable[[object], int]:
        """Return a function of the library, for numbers of a type."""
        return getattr(self._library, f"{what}_{str(dtype).removeprefix('torch.')}")

    def predict(self, theta: Tensor, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Evaluate a stack of networks."""
        prediction = self._points(theta, x)
        shifted = {} if shift is None else {"shift": shift}
        self._run("predict", prediction, {"theta": theta, "query": x, **shifted})
        return prediction

    def loss_and_gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return each network's loss and gradient."""
        loss, gradient = torch.empty(theta.shape[:-1], dtype=theta.dtype), _like(theta)
        arrays = {"theta": theta, "query": x, "labels": y}
        self._run("loss_and_gradient", gradient, arrays, second=loss)
        return loss, gradient

    def hessian_product(self, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of each network's loss times a vector."""
        product = _like(theta)
        self._run("hessian_product", product, {"theta": theta, "v": v, "query": x, "labels": y})
        return product

    def descend(
        self, theta: Tensor, x: Tensor, y: Tensor, step_size: float | Tensor | Sizes
    ) -> Tensor:
        """Return the parameters after a gradient step on each batch."""
        phi = _like(theta)
        self._run("descend", phi, {"theta": theta, "x": x, "y": y}, step_size)
        return phi

    def summed_gradient(
        self,
        theta: Tensor,
        x: Tensor,
        y: Tensor,
        after: tuple[Tensor, Tensor, float | Tensor] | None = None,
    ) -> Tensor:
        """Return the sum along the last axis of the stack of the gradients after some steps."""
        total = self._summed(theta)
        arrays = {"theta": theta, "query": x, "labels": y}
        step_size: float | Tensor = 0.0
        if after is not None:
            arrays["x"], arrays["y"], step_size = after
        self._run("summed_gradient", total, arrays, step_size)
        return total

    def shifted_gradient(
        self, theta: Tensor, shift: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of the gradients of shifted networks, and each one's along its shift."""
        total, along = self._summed(theta), self._shifts(theta)
        arrays = {"theta": theta, "shift": shift, "query": x, "labels": y}
        self._run("summed_gradient", total, arrays, second=along)
        return total, along

    def gradient_along_shift(self, theta: Tensor, shift: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of each network's loss along its shift."""
        along = self._shifts(theta)
        arrays = {"theta": theta, "shift": shift, "query": x, "labels": y}
        self._run("gradient_along_shift", along, arrays)
        return along

    def hidden_layers(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the activations of all hidden layers, one after the other."""
        hidden = theta.new_empty(*theta.shape[:-1], x.shape[-2] * self.hidden)
        self._run("features", hidden, {"theta": theta, "query": x})
        return hidden

    def pulled_back(self, theta: Tensor, x: Tensor, hidden: Tensor, cotangent: Tensor) -> Tensor:
        """Return each network's gradient of sum(cotangent * last hidden layer)."""
        gradient = _like(theta)
        flat = cotangent.flatten(-2)
        arrays = {"theta": theta, "query": x, "hidden": hidden, "v": flat}
        self._run("pulled_back", gradient, arrays)
        return gradient

    def predict_along(
        self,
        theta: Tensor,
        x: Tensor,
        y: Tensor,
        step_size: float | Tensor | Sizes,
        query: Tensor,
        every: bool,
    ) -> Tensor:
        """Return predictions before the first and after each gradient step, or after the last."""
        times = (len(x) + 1,) if every else ()
        shape = *times, *theta.shape[:-1], query.shape[-2], self.widths[-1]
        prediction = torch.empty(shape, dtype=theta.dtype)
        arrays = {"theta": theta, "x": x, "y": y, "query": query}
        self._run("predict_along", prediction, arrays, step_size, every=every)
        return prediction

    def gradient_through(
        self,
        theta: Tensor,
        descent: tuple[Tensor, Tensor, float | Tensor | Sizes],
        x: Tensor,
        y: Tensor,
        every: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the sum of the gradients through a descent, for theta and for its step sizes."""
        total, along = self._summed(theta), None
        batches_x, batches_y, step_size = descent
        if isinstance(step_size, Sizes):
            kinds, *_, length = step_size.values.shape
            along = theta.new_empty(*theta.shape[:-2], kinds, length)
        arrays = {"theta": theta, "x": batches_x, "y": batches_y, "query": x, "labels": y}
        self._run("gradient_through", total, arrays, step_size, along, every)
        return total, along

    def gradient_through_head(
        self, theta: Tensor, support: Sets, step_size: float, steps: int, query: Sets
    ) -> Tensor:
        """Return the gradient of the query losses after each task's descent of the head."""
        gradient, arrays = _like(theta), {"theta": theta, **_of_tasks(support, query)}
        self._run("gradient_through_head", gradient, arrays, step_size, every=steps)
        return gradient

    def gradient_through_ridge(
        self, theta: Tensor, weight: Tensor, support: Sets, query: Sets
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the query losses after each task's ridge regression."""
        gradient = _like(theta)
        along_log = torch.empty(theta.shape[:-1], dtype=theta.dtype)
        arrays = {"theta": theta, **_of_tasks(support, query)}
        self._run("gradient_through_ridge", gradient, arrays, weight, along_log)
        return gradient, along_log

    def gradient_through_context(
        self,
        theta: Tensor,
        weight: Tensor,
        support: Sets,
        step_size: float,
        steps: int,
        query: Sets,
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the query losses after each task's descent of its context."""
        gradient = _like(theta)
        shape = *theta.shape[:-1], weight.shape[-2], self.widths[1]
        if weight.shape[-1] != self.widths[1]:
            raise ValueError(f"weights of a context must be {shape}, got {tuple(weight.shape)}")
        along = torch.empty(shape, dtype=theta.dtype)
        arrays = {"theta": theta, "v": weight.flatten(-2), **_of_tasks(support, query)}
        self._run("gradient_through_context", gradient, arrays, step_size, along, steps)
        return gradient, along

    def _points(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return memory for an output at each point of each network."""
        return torch.empty(*theta.shape[:-1], x.shape[-2], self.widths[-1], dtype=theta.dtype)

    def _summed(self, theta: Tensor) -> Tensor:
        """Return memory for a vector like theta, summed along the last axis of the stack."""
        return torch.empty(*theta.shape[:-2], theta.shape[-1], dtype=theta.dtype)

    def _shifts(self, theta: Tensor) -> Tensor:
        """Return memory for a shift of each network."""
        return torch.empty(*theta.shape[:-1], self.widths[1], dtype=theta.dtype)

    def _run(
        self,
        what: str,
        result: Tensor,
        arrays: dict[str, Tensor],
        step_size: float | Tensor | Sizes = 0.0,
        second: Tensor | None = None,
        every: int = 0,
    ) -> None:
        """Call the kernel for arrays of `ARRAYS`, whose leading axes broadcast to theta's.

        Args:
            what: Name of the function.
            result: Where it writes.
            arrays: What it reads.
            step_size: Of the steps.
            second: Where it writes what else it finds.
            every: What it is told besides: `Job` in kernel.cpp.
        """
        if isinstance(step_size, Sizes):
            values = step_size.values
            each = len(values) > 1 and values.stride(0) == 0  # a stride of 0 says one for all steps
            arrays.setdefault("sizes", values.contiguous() if each else values)
        lie = [(name, t.dtype, t.shape, t.stride()) for name, t in arrays.items()]
        prepared, function, scattered = _prepared(self, what, *lie)
        if scattered:
            gathered = {name: arrays[name].contiguous() for name in scattered}
            return self._run(what, result, arrays | gathered, step_size, second, every)
        job = Job.from_buffer_copy(prepared)  # a copy: other threads ask too
        for name, t in arrays.items():
            setattr(job, name, t.data_ptr())
        job.result, job.every = result.data_ptr(), every
        if second is not None:
            job.second = second.data_ptr()
        theta = arrays["theta"]
        if isinstance(step_size, Tensor):
            alphas = (
                step_size.to(theta.dtype).expand(theta.shape[:-1]).reshape(job.outer, job.inner)
            )
            job.sizes, (job.sizes_outer, job.sizes_inner) = alphas.data_ptr(), alphas.stride()
        elif not isinstance(step_size, Sizes):
            number = REALS[theta.dtype](step_size)
            job.sizes = ctypes.addressof(number)
        if function(ctypes.byref(job)):
            points = max(job.points, job.queries)
            raise MemoryError(
                f"not enough memory for a network of {self.parameters} parameters at {points} points"
            )


def updates(*tensors: Tensor) -> bool:
    """Return whether the kernel does the outer update of theta, its gradient and both moments."""
    theta, gradient, memory = tensors
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
    moved, remembered = _like(theta), _like(memory)
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

    Those are the ones whose own axes do not lie in one piece. Shapes and strides hardly ever change
    in training.

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
    _require_fit(kernel, what, shapes)
    stack = shapes["theta"][:-1]
    job = Job(*kernel.shape, *(1, 1, *stack)[-2:])
    if "x" in shapes:
        job.steps, job.points = shapes["x"][0], shapes["x"][-2]
    job.queries = next((shapes[name][-2] for name in ("query", "asked") if name in shapes), 0)
    job.length = shapes["sizes"][-1] if "sizes" in shapes else 1
    if what == "gradient_through_context":
        job.length = shapes["v"][-1] // kernel.widths[1]
    scattered = []
    for name, _, shape, strides in lie:
        lies = ARRAYS[name]
        over = slice(int(lies.steps), len(shape) - lies.own)  # of its axes, those of the stack
        outer, inner = _over_stack(stack, shape[over], strides[over])
        setattr(job, f"{name}_outer", outer)
        setattr(job, f"{name}_inner", inner)
        if lies.steps:
            setattr(job, f"{name}_step", strides[0] if shape[0] > 1 else 0)
        if 0 not in shape and not _in_one_piece(shape[-lies.own :], strides[-lies.own :]):
            scattered.append(name)
    return job, kernel.function(what, types[0]), scattered


def _of_tasks(support: Sets, query: Sets) -> dict[str, Tensor]:
    """Return the arrays of a head's job: tasks come first, and all may share x of the query sets."""
    x, y = (t.movedim(-3, 0) for t in support)
    asked, answers = query[0], query[1].movedim(-3, 0)
    shared = asked.dim() == 2
    asked = asked.expand(len(x), *asked.shape) if shared else asked.movedim(-3, 0)
    return {"x": x, "y": y, "asked": asked, "answers": answers}


def _require_fit(kernel: Kernel, what: str, shapes: dict[str, Axes]) -> None:
    """Raise ValueError where the own axes of arrays do not fit the network or each other."""
    inputs, width, *_, outputs = kernel.widths
    points = shapes.get("query", (0, 0))[-2]
    of_v = {
        "hessian_product": kernel.parameters,
        "gradient_through_context": shapes.get("v", (0,))[-1] // width * width,
        "pulled_back": points * kernel.widths[-2],
    }
    last = {
        "theta": (kernel.parameters,),
        "v": (of_v.get(what),),
        "x": (inputs,),
        "y": (outputs,),
        "sizes": (len(kernel.widths) - 1, kernel.parameters),
        "query": (inputs,),
        "labels": (outputs,),
        "shift": (width,),
        "hidden": (points * kernel.hidden,),
        "asked": (inputs,),
        "answers": (outputs,),
    }
    fit = all(shape[-1] in last[name] for name, shape in shapes.items())
    batches = {(shapes[name][0], shapes[name][-2]) for name in ("x", "y") if name in shapes}
    asked = ("query", "labels", "asked", "answers")
    queries = {shapes[name][-2] for name in asked if name in shapes}
    steps = {shapes[name][0] for name in ("x", "y", "asked", "answers") if name in shapes}
    sizes = shapes.get("sizes", (1,))[0] in (1, *steps)
    if not (fit and sizes) or len(steps) > 1 or len(batches) > 1 or len(queries) > 1:
        described = ", ".join(str(tuple(shape)) for shape in shapes.values())
        raise ValueError(
            f"a network of {kernel.parameters} parameters cannot take parameters and points {described}"
        )


def _in_one_piece(sizes: Axes, strides: Axes) -> bool:
    """Return whether axes lie as those of a contiguous array."""
    expected = 1
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def _over_stack(stack: Axes, sizes: Axes, strides: Axes) -> Axes:
    """Return strides over the two axes of a stack, 0 where one is missing or broadcasts."""
    axes = list(zip((1, 1, *sizes)[-2:], (0, 0, *strides)[-2:], (1, 1, *stack)[-2:], strict=True))
    if len(sizes) > 2 or any(size not in (1, whole) for size, _, whole in axes):
        raise ValueError(f"axes {tuple(sizes)} do not broadcast to a stack of {tuple(stack)}")
    return tuple(0 if size == 1 else stride for size, stride, _ in axes)
