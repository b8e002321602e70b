"""How the kernel is called: where arrays lie in memory, and whether their shapes fit."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int64
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from metabench.learning.step_sizes import Size, Sizes

if TYPE_CHECKING:
    from metabench.learning.engine.fused import Kernel

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
    names += ["outer", "inner", "steps", "points", "queries", "length", "most", "every"]
    for name, lies in ARRAYS.items():
        names += [name, f"{name}_outer", f"{name}_inner"] + [f"{name}_step"] * lies.steps
    return tuple((name, c_int64) for name in (*names, "result", "second"))


class Job(ctypes.Structure):
    """What is asked of the kernel, as it declares it.

    An array is where it lies and its strides over a stack.
    """

    _fields_ = _fields()


def run(
    kernel: Kernel,
    what: str,
    result: Tensor,
    arrays: dict[str, Tensor],
    step_size: Size | Sizes = 0.0,
    second: Tensor | None = None,
    every: int = 0,
) -> None:
    """Call the kernel for arrays of `ARRAYS`, whose leading axes broadcast to theta's.

    Args:
        kernel: Of the networks.
        what: Name of the function.
        result: Where it writes.
        arrays: What it reads.
        step_size: Of the steps.
        second: Where it writes what else it finds.
        every: What it is told besides: `Job` in kernel.cpp.
    """
    limit = None
    if isinstance(step_size, Sizes):
        limit = REALS[arrays["theta"].dtype](step_size.most)
        values = step_size.values
        each = len(values) > 1 and values.stride(0) == 0  # a stride of 0 says one for all steps
        arrays.setdefault("sizes", values.contiguous() if each else values)
    lie = [(name, t.dtype, t.shape, t.stride()) for name, t in arrays.items()]
    prepared, function, scattered = _prepared(kernel, what, *lie)
    if scattered:
        gathered = {name: arrays[name].contiguous() for name in scattered}
        return run(kernel, what, result, arrays | gathered, step_size, second, every)
    job = Job.from_buffer_copy(prepared)  # a copy: other threads ask too
    for name, t in arrays.items():
        setattr(job, name, t.data_ptr())
    job.result, job.every = result.data_ptr(), every
    if limit is not None:
        job.most = ctypes.addressof(limit)
    if second is not None:
        job.second = second.data_ptr()
    theta = arrays["theta"]
    if isinstance(step_size, Tensor):
        alphas = step_size.to(theta.dtype).expand(theta.shape[:-1]).reshape(job.outer, job.inner)
        job.sizes, (job.sizes_outer, job.sizes_inner) = alphas.data_ptr(), alphas.stride()
    elif not isinstance(step_size, Sizes):
        number = REALS[theta.dtype](step_size)
        job.sizes = ctypes.addressof(number)
    if function(ctypes.byref(job)):
        points = max(job.points, job.queries)
        raise MemoryError(
            f"not enough memory for a network of {kernel.parameters} parameters at {points} points"
        )


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
