"""The operations of `metabench.learning.recurrent`: those of the kernel, or of torch.

The equations are there.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int64
from typing import NamedTuple

import torch
from torch import Tensor

from metabench.learning import engine
from metabench.learning.engine.calls import C_TYPES, require_fit
from metabench.learning.linear import product


class State(NamedTuple):
    """What an LSTM knows after some points, or a gradient along that."""

    hidden: Tensor
    """s, ``(..., unit)``."""
    cell: Tensor
    """c, ``(..., unit)``."""


class ReadTape(NamedTuple):
    """What the backward pass of `read` needs."""

    weight: Tensor
    known: Tensor | None
    saved: tuple[Tensor, ...]
    """What the forward pass computed, in the layout of its engine."""


class LastTape(NamedTuple):
    """What the backward pass of `last` needs."""

    before: Tensor
    """c before, ``(sequence, unit)``."""
    opened: Tensor
    """The open gates, ``(sequence, point, 4 * unit)``."""
    cell: Tensor
    """c after, ``(sequence, point, unit)``."""


class Reading(ctypes.Structure):
    """A call: the same fields in the same order as `Reading` in kernel.cpp."""

    _fields_ = tuple(
        (name, c_int64)
        for name in (
            *("stack", "sequences", "shots", "units", "gates", "weight", "known", "tape"),
            *("hidden", "cell", "along_hidden", "along_cell", "along_gates", "along_weight"),
        )
    )


class Last(ctypes.Structure):
    """A call: the same fields in the same order as `Last` in kernel.cpp."""

    _fields_ = tuple(
        (name, c_int64)
        for name in (
            *("sequences", "points", "units", "gates", "base", "cell_before", "opened", "cell"),
            *("hidden", "along_hidden", "along_gates", "along_base", "along_cell_before"),
        )
    )


def read(gates: Tensor, weight: Tensor, known: Tensor | None) -> tuple[State, ReadTape]:
    """Return the states after the last point, ``(stack, sequence, unit)`` each.

    Args:
        gates: Those of each point, ``(stack, sequence, shots, 4 * unit)``.
        weight: V, ``(stack, unit, 4 * unit)``.
        known: Whether a point is read, ``(stack, sequence, shots)`` bool, or None if all are.

    Raises:
        MemoryError: The kernel could not allocate its workspace.
        TypeError, ValueError: Types or shapes do not fit each other.
    """
    if not _covers(gates):
        return _read(gates, weight, known)
    stack, sequences, shots, width = gates.shape
    units = weight.shape[-2]
    block = c_int64.in_dll(_library(), "block").value
    padded = -(-units // block) * block
    tape = gates.new_empty(stack, shots, sequences * 6 * padded)  # room for s, c and four gates
    state = State(*(gates.new_empty(stack, sequences, units) for _ in range(2)))
    call = Reading(stack, sequences, shots, units)
    call.gates = _address("gates", gates, gates.dtype, stack, sequences, shots, 4 * units)
    call.weight = _address("weight", weight, gates.dtype, stack, units, width)
    if known is not None:
        call.known = _address("known", known, torch.bool, stack, sequences, shots)
    call.tape, call.hidden, call.cell = (t.data_ptr() for t in (tape, *state))
    _run("lstm_read", call, gates.dtype)
    return state, ReadTape(weight, known, (tape,))


def read_back(tape: ReadTape, along: State) -> tuple[Tensor, Tensor]:
    """Return the gradients along gates and weight from those along the states."""
    weight, known, saved = tape
    if len(saved) > 1:
        return _read_back(tape, along)
    (stack, sequences, units), dtype = along.hidden.shape, weight.dtype
    shots = saved[0].shape[1]
    found = weight.new_empty(stack, sequences, shots, 4 * units), torch.empty_like(weight)
    call = Reading(stack, sequences, shots, units)
    call.weight, call.tape = weight.data_ptr(), saved[0].data_ptr()
    call.known = 0 if known is None else known.data_ptr()
    call.along_hidden, call.along_cell = (
        _address(name, part, dtype, stack, sequences, units)
        for name, part in along._asdict().items()
    )
    call.along_gates, call.along_weight = (t.data_ptr() for t in found)
    _run("lstm_read_back", call, dtype)
    return found


def last(gates: Tensor, base: Tensor, cell: Tensor) -> tuple[Tensor, LastTape]:
    """Return s after one more point, ``(sequence, point, unit)``.

    Args:
        gates: Those of each point, ``(sequence, point, 4 * unit)``. The tape takes their memory.
        base: What is added to all gates of a sequence, ``(sequence, 4 * unit)``.
        cell: c before, ``(sequence, unit)``.

    Raises:
        TypeError, ValueError: Types or shapes do not fit each other.
    """
    if not _covers(gates):
        opened, after = _cell(gates.add_(base.unsqueeze(1)), cell.unsqueeze(1))
        return after.hidden, LastTape(cell, opened, after.cell)
    sequences, points, width = gates.shape
    units, dtype = cell.shape[-1], gates.dtype
    state = State(*(gates.new_empty(sequences, points, units) for _ in range(2)))
    call = Last(sequences, points, units)
    call.gates = call.opened = _address("gates", gates, dtype, sequences, points, 4 * units)
    call.base = _address("base", base, dtype, sequences, width)
    call.cell_before = _address("cell", cell, dtype, sequences, units)
    call.hidden, call.cell = (t.data_ptr() for t in state)
    _run("lstm_last", call, dtype)
    return state.hidden, LastTape(cell, gates, state.cell)


def last_back(tape: LastTape, along: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients along gates, base and cell from that along s."""
    before, opened, cell = tape
    if not _covers(opened):
        state = State(along, torch.zeros_like(along))
        of_gates, of_cell = _cell_back(opened, cell, before.unsqueeze(1), state)
        return of_gates, of_gates.sum(1), of_cell.sum(1)
    sequences, points, width = opened.shape
    found = torch.empty_like(opened), before.new_empty(sequences, width), torch.empty_like(before)
    call = Last(sequences, points, width // 4)
    call.cell_before, call.opened, call.cell = (t.data_ptr() for t in tape)
    call.along_hidden = _address("along", along, opened.dtype, *cell.shape)
    call.along_gates, call.along_base, call.along_cell_before = (t.data_ptr() for t in found)
    _run("lstm_last_back", call, opened.dtype)
    return found


def _covers(gates: Tensor) -> bool:
    """Return whether the kernel can compute."""
    return engine.name() == "fused" and gates.dtype in C_TYPES and gates.is_cpu


def _library() -> ctypes.CDLL:
    library = engine.library()
    assert library is not None
    return library


def _address(name: str, array: Tensor, dtype: torch.dtype, *shape: int) -> int:
    """Return the address of an array that the kernel may read.

    Raises:
        TypeError, ValueError: It has another type or shape, or is not contiguous.
    """
    require_fit(name, array, dtype, *shape)
    if not array.is_contiguous():
        raise ValueError(f"{name} must be contiguous, got the strides {array.stride()}")
    return array.data_ptr()


def _run(operation: str, call: ctypes.Structure, dtype: torch.dtype) -> None:
    """Call the kernel."""
    function = getattr(_library(), f"{operation}_{str(dtype).removeprefix('torch.')}")
    if function(ctypes.byref(call)):
        raise MemoryError(f"not enough memory for {operation}")


# The same on torch.


def _read(gates: Tensor, weight: Tensor, known: Tensor | None) -> tuple[State, ReadTape]:
    zeros = gates.new_zeros(*gates.shape[:2], weight.shape[-2])
    hidden, cell, all_opened = [zeros], [zeros], []
    for k, of_points in enumerate(gates.unbind(2)):
        opened, after = _cell(of_points + product(hidden[-1], weight), cell[-1])
        if known is not None:
            is_read = known[:, :, k, None]
            before = State(hidden[-1], cell[-1])
            after = State(*(a.where(is_read, b) for a, b in zip(after, before, strict=True)))
        hidden.append(after.hidden)
        cell.append(after.cell)
        all_opened.append(opened)
    kept = torch.stack(hidden), torch.stack(cell), torch.stack(all_opened)
    return State(hidden[-1], cell[-1]), ReadTape(weight, known, kept)


def _read_back(tape: ReadTape, along: State) -> tuple[Tensor, Tensor]:
    weight, known, (hidden, cell, all_opened) = tape
    transposed = weight.mT.contiguous()
    found = []
    for k in reversed(range(len(all_opened))):
        of_gates, of_cell = _cell_back(all_opened[k], cell[k + 1], cell[k], along)
        if known is not None:
            is_read = known[:, :, k, None]
            of_gates = of_gates.where(is_read, 0.0)  # not 0 * inf
            of_cell = of_cell.where(is_read, along.cell)
        of_hidden = product(of_gates, transposed)
        if known is not None:
            of_hidden = of_hidden.where(is_read, along.hidden)
        along = State(of_hidden, of_cell)
        found.append(of_gates)
    of_cells = torch.stack(found[::-1])  # (shots, stack, sequence, 4 * unit)
    before, after = (t.transpose(0, 1).flatten(1, 2) for t in (hidden[:-1], of_cells))
    return of_cells.movedim(0, 2).contiguous(), product(before.mT.contiguous(), after)


def _cell(z: Tensor, before: Tensor) -> tuple[Tensor, State]:
    """Return the open gates and the state after a cell."""
    # torch's own sigmoid rounds by the place of a number in a tensor, and so by that of a run in
    # its stack. So one tanh serves all.
    slopes = z.new_tensor([[0.5], [0.5], [1.0], [0.5]])
    opened = torch.tanh(slopes * z.unflatten(-1, (4, -1))) * slopes + (1 - slopes)
    i, f, g, o = opened.unbind(-2)
    cell = f * before + i * g
    return opened.flatten(-2), State(o * torch.tanh(cell), cell)


def _cell_back(opened: Tensor, cell: Tensor, before: Tensor, along: State) -> tuple[Tensor, Tensor]:
    """Return the gradients along z and along c before, from those along the state after."""
    i, f, g, o = opened.unflatten(-1, (4, -1)).unbind(-2)
    t = torch.tanh(cell)
    c = along.cell + along.hidden * o * (1 - t * t)
    of_gates = (
        c * g * i * (1 - i),
        c * before * f * (1 - f),
        c * i * (1 - g * g),
        along.hidden * t * o * (1 - o),
    )
    return torch.cat(of_gates, dim=-1), c * f
