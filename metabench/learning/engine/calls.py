"""Calls of the kernel: check the shapes of arrays, and pass their addresses and strides."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int64
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from metabench.learning import maps
from metabench.learning.step_sizes import LAST, Maps, Pulled, Sizes, StepSize, Weights

if TYPE_CHECKING:
    from metabench.learning.engine.fused import Kernel

C_TYPES = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}


class Layout(NamedTuple):
    """The axes of an array, ``([step,] ..., *own)``. The axes ``...`` broadcast to the stack."""

    own: int
    """Number of the array's own axes, which follow those of the stack."""
    steps: bool = False
    """Whether the first axis is that of the steps."""


ARRAYS = {
    "theta": Layout(1),
    "v": Layout(1),
    "x": Layout(2, steps=True),
    "y": Layout(2, steps=True),
    "sizes": Layout(1, steps=True),
    "query": Layout(2),
    "labels": Layout(2),
    "shift": Layout(1),
    "hidden": Layout(1),
    "maps": Layout(1),
    "task_query": Layout(2, steps=True),
    "task_labels": Layout(2, steps=True),
}
"""The arrays of a job, in its order. Sets of points are ``(point, feature)``, all else is a vector.

Where a head or a context adapts, tasks take the place of steps: x and y are their support sets.
"""


def _fields() -> tuple[tuple[str, type[c_int64]], ...]:
    names = ["activation", "inputs", "outputs", "depth", "widths", "parameters"]
    names += ["outer", "inner", "steps", "points", "queries", "length"]
    names += ["limit", "pull", "weights", "first_order", "number", "processes", "measured"]
    for name, layout in ARRAYS.items():
        names += [name, f"{name}_outer", f"{name}_inner"] + [f"{name}_step"] * layout.steps
    return tuple((name, c_int64) for name in (*names, "result", "second"))


class Job(ctypes.Structure):
    """A call of the kernel: the same fields in the same order as `Job` in kernel.cpp.

    An array is its address and its strides over the stack.
    """

    _fields_ = _fields()


def run(
    kernel: Kernel,
    operation: str,
    result: Tensor,
    arrays: dict[str, Tensor],
    step_size: StepSize = 0.0,
    second: Tensor | None = None,
    number: int = 0,
    measured: ctypes.Array[c_int64] | None = None,
    weights: Weights = LAST,
    first_order: bool = False,
    processes: int = 0,
) -> None:
    """Call the kernel with arrays of `ARRAYS`, whose leading axes broadcast to those of theta.

    Args:
        kernel: Kernel of the networks.
        operation: Name of the function.
        result: Memory for its result.
        arrays: Its input, by name.
        step_size: Size of the steps.
        second: Memory for its second result.
        number: One more number; `Job` in kernel.cpp tells its meaning.
        measured: Numbers of steps after which to predict; `number` is then how many they are.
        weights: Weights of the losses after each step, where the gradient goes through steps.
        first_order: Whether that gradient leaves out second derivatives.
        processes: Address of Gaussian processes on the features.

    Raises:
        MemoryError: The kernel could not allocate its workspace.
        TypeError, ValueError: As in `_prepared_job`.
    """
    limit = None
    if isinstance(step_size, Maps):
        arrays["maps"], step_size = step_size
    elif isinstance(step_size, Sizes):
        limit = C_TYPES[arrays["theta"].dtype](step_size.limit)
        values = step_size.values
        # The kernel takes a stride of 0 over steps as one size for all of them. An expanded tensor
        # has that stride too, but its gradient has an entry for each step.
        expanded = len(values) > 1 and values.stride(0) == 0
        arrays.setdefault("sizes", values.contiguous() if expanded else values)
    described = [(name, t.dtype, t.shape, t.stride()) for name, t in arrays.items()]
    prepared, function, scattered = _prepared_job(kernel, operation, *described)
    if scattered:  # with contiguous copies, the second call finds none
        gathered = {name: arrays[name].contiguous() for name in scattered}
        arrays = arrays | gathered
        more = step_size, second, number, measured, weights, first_order, processes
        return run(kernel, operation, result, arrays, *more)
    job = Job.from_buffer_copy(prepared)  # a copy, since threads share the cached job
    for name, t in arrays.items():
        setattr(job, name, t.data_ptr())
    job.result, job.number, job.processes = result.data_ptr(), number, processes
    job.first_order = first_order
    of_losses = (C_TYPES[arrays["theta"].dtype] * 2)(*weights)
    job.weights = ctypes.addressof(of_losses)
    if measured is not None:
        job.measured = ctypes.addressof(measured)
    if limit is not None:
        job.limit = ctypes.addressof(limit)
    if isinstance(step_size, Pulled):
        pull = C_TYPES[arrays["theta"].dtype](step_size.strength)
        job.pull, step_size = ctypes.addressof(pull), step_size.size
    if second is not None:
        job.second = second.data_ptr()
    theta = arrays["theta"]
    if isinstance(step_size, Tensor):
        alphas = step_size.to(theta.dtype).expand(theta.shape[:-1]).reshape(job.outer, job.inner)
        job.sizes, (job.sizes_outer, job.sizes_inner) = alphas.data_ptr(), alphas.stride()
    elif not isinstance(step_size, Sizes):
        size = C_TYPES[theta.dtype](step_size)
        job.sizes = ctypes.addressof(size)
    if function(ctypes.byref(job)):
        points = max(job.points, job.queries)
        raise MemoryError(
            f"not enough memory for a network of {kernel.parameters} parameters at {points} points"
        )


Axes = tuple[int, ...]
Described = tuple[str, torch.dtype, Axes, Axes]
"""Name, type, shape and strides of an array."""


@lru_cache(maxsize=1000)
def _prepared_job(
    kernel: Kernel, operation: str, *described: Described
) -> tuple[Job, Callable[[object], int], list[str]]:
    """Return a call's job without addresses, its function, and the arrays to copy first.

    The last are those whose own axes are not contiguous. The cache saves the checks and the strides
    of nearly all calls, since training repeats a few shapes.

    Args:
        kernel: Kernel of the networks.
        operation: Name of the function.
        described: Theta and the other arrays.

    Raises:
        TypeError: The arrays have different types.
        ValueError: The shapes do not fit each other.
    """
    types = [dtype for _, dtype, _, _ in described]
    if len(set(types)) > 1:
        raise TypeError(
            f"parameters and points must be of one type, got {', '.join(map(str, types))}"
        )
    shapes = {name: shape for name, _, shape, _ in described}
    _require_fit(kernel, operation, shapes)
    stack = shapes["theta"][:-1]
    job = Job(*kernel.shape, *(1, 1, *stack)[-2:])
    if "x" in shapes:
        job.steps, job.points = shapes["x"][0], shapes["x"][-2]
    job.queries = next((shapes[name][-2] for name in ("query", "task_query") if name in shapes), 0)
    job.length = shapes["sizes"][-1] if "sizes" in shapes else 1
    if operation == "gradient_through_context":
        job.length = shapes["v"][-1] // kernel.widths[1]
    if "maps" in shapes:
        job.length = shapes["maps"][-1]
    scattered = []
    for name, _, shape, strides in described:
        layout = ARRAYS[name]
        of_stack = slice(int(layout.steps), len(shape) - layout.own)
        outer, inner = _stack_strides(stack, shape[of_stack], strides[of_stack])
        setattr(job, f"{name}_outer", outer)
        setattr(job, f"{name}_inner", inner)
        if layout.steps:
            setattr(job, f"{name}_step", strides[0] if shape[0] > 1 else 0)
        if 0 not in shape and not _contiguous(shape[-layout.own :], strides[-layout.own :]):
            scattered.append(name)
    return job, kernel.function(operation, types[0]), scattered


def _require_fit(kernel: Kernel, operation: str, shapes: dict[str, Axes]) -> None:
    """Raise ValueError if the own axes of arrays do not fit the network or each other."""
    inputs, width, *_, outputs = kernel.widths
    points = shapes.get("query", (0, 0))[-2]
    length_of_v = {
        "hessian_product": kernel.parameters,
        "gradient_through_context": shapes.get("v", (0,))[-1] // width * width,
        "pulled_back": points * kernel.widths[-2],
    }
    last_axis = {
        "theta": (kernel.parameters,),
        "v": (length_of_v.get(operation),),
        "x": (inputs,),
        "y": (outputs,),
        "sizes": (len(kernel.widths) - 1, kernel.parameters),
        "query": (inputs,),
        "labels": (outputs,),
        "shift": (width,),
        "hidden": (points * kernel.hidden,),
        "maps": (maps.length(kernel.widths),),
        "task_query": (inputs,),
        "task_labels": (outputs,),
    }
    lengths_fit = all(shape[-1] in last_axis[name] for name, shape in shapes.items())
    batches = {(shapes[name][0], shapes[name][-2]) for name in ("x", "y") if name in shapes}
    of_queries = ("query", "labels", "task_query", "task_labels")
    queries = {shapes[name][-2] for name in of_queries if name in shapes}
    steps = {shapes[name][0] for name in ("x", "y", "task_query", "task_labels") if name in shapes}
    sizes_fit = shapes.get("sizes", (1,))[0] in (1, *steps)
    one_of_each = len(steps) <= 1 and len(batches) <= 1 and len(queries) <= 1
    if not (lengths_fit and sizes_fit and one_of_each):
        described = ", ".join(str(tuple(shape)) for shape in shapes.values())
        raise ValueError(
            f"a network of {kernel.parameters} parameters cannot take parameters and points "
            f"of shapes {described}"
        )


def _contiguous(sizes: Axes, strides: Axes) -> bool:
    """Return whether axes have the strides of a contiguous array."""
    expected = 1
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def _stack_strides(stack: Axes, sizes: Axes, strides: Axes) -> Axes:
    """Return the strides over the two axes of a stack: 0 where an axis is missing or broadcasts."""
    axes = list(zip((1, 1, *sizes)[-2:], (0, 0, *strides)[-2:], (1, 1, *stack)[-2:], strict=True))
    if len(sizes) > 2 or any(size not in (1, whole) for size, _, whole in axes):
        raise ValueError(f"axes {tuple(sizes)} do not broadcast to a stack of {tuple(stack)}")
    return tuple(0 if size == 1 else stride for size, stride, _ in axes)


def require_fit(name: str, found: Tensor, dtype: torch.dtype, *shape: int) -> None:
    """Raise TypeError or ValueError unless a tensor has a type and a shape."""
    if found.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, got {found.dtype}")
    if found.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {tuple(found.shape)}")
