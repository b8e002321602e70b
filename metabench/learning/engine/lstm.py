"""The operations of `metabench.learning.recurrent`: those of the kernel, or of torch.

The equations are there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_int64
from typing import NamedTuple

import torch
from torch import Tensor

from metabench.learning import engine
from metabench.learning.engine.calls import C_TYPES
from metabench.learning.linear import product


class State(NamedTuple):
    """What an LSTM knows after some points, or a gradient along that."""

    hidden: Tensor
    """s, ``(..., unit)``."""
    cell: Tensor
    """c, ``(..., unit)``."""


class Tape(NamedTuple):
    """What the way back of `read` or `last` needs."""

    given: tuple[Tensor | None, ...]
    """What it took."""
    kept: tuple[Tensor, ...]
    """What it computed."""


def _structure(*names: str) -> type[ctypes.Structure]:
    fields = {"_fields_": tuple((name, c_int64) for name in names)}
    return type("Call", (ctypes.Structure,), fields)


READING = _structure(
    *("stack", "sequences", "shots", "units", "gates", "weight", "known", "tape"),
    *("hidden", "cell", "along_hidden", "along_cell", "along_gates", "along_weight"),
)
LAST = _structure(
    *("sequences", "points", "units", "gates", "base", "cell_before", "opened", "cell"),
    *("hidden", "along_hidden", "along_gates", "along_base", "along_cell_before"),
)
"""The calls: the same fields in the same order as `Reading` and `Last` in kernel.cpp."""

BLOCK = 32
"""As in kernel.cpp: its memory has units in multiples of it."""


def read(gates: Tensor, weight: Tensor, known: Tensor | None) -> tuple[State, Tape]:
    """Return the states after the last cell, ``(stack, sequence, unit)`` each.

    Args:
        gates: Those of each point, ``(stack, sequence, shots, 4 * unit)``.
        weight: V, ``(stack, unit, 4 * unit)``.
        known: Whether a point is read, ``(stack, sequence, shots)`` bool, or None if all are.
    """
    given = gates, weight, known
    if not _covers(gates):
        return _read(*given)
    stack, sequences, shots, _ = gates.shape
    units = weight.shape[-2]
    tape = gates.new_empty(stack, shots, sequences, 6, -(-units // BLOCK) * BLOCK)
    state = State(*(gates.new_empty(stack, sequences, units) for _ in range(2)))
    sizes = {"stack": stack, "sequences": sequences, "shots": shots, "units": units}
    arrays = {"gates": gates, "weight": weight, "known": known, "tape": tape}
    _call("lstm_read", READING(**sizes), arrays | state._asdict())
    return state, Tape(given, (tape,))


def read_back(tape: Tape, along: State) -> tuple[Tensor, Tensor]:
    """Return the gradients along gates and weight from that along the state."""
    gates, weight, known = tape.given
    assert gates is not None and weight is not None
    if not _covers(gates):
        return _read_back(tape, along)
    stack, sequences, shots, _ = gates.shape
    sizes = {"stack": stack, "sequences": sequences, "shots": shots, "units": weight.shape[-2]}
    arrays = {"gates": gates, "weight": weight, "known": known, "tape": tape.kept[0]}
    found = torch.empty_like(gates), torch.empty_like(weight)
    arrays |= {"along_hidden": along.hidden, "along_cell": along.cell}
    arrays |= dict(zip(("along_gates", "along_weight"), found, strict=True))
    _call("lstm_read_back", READING(**sizes), arrays)
    return found


def last(gates: Tensor, base: Tensor, cell: Tensor) -> tuple[Tensor, Tape]:
    """Return s after one more cell at each point, ``(sequence, point, unit)``.

    Args:
        gates: Those of each point, ``(sequence, point, 4 * unit)``. The kernel overwrites them.
        base: What is added to all gates of a sequence, ``(sequence, 4 * unit)``.
        cell: c before, ``(sequence, unit)``.
    """
    given = gates, base, cell
    if not _covers(gates):
        opened, state = _cell((gates + base.unsqueeze(1)), cell.unsqueeze(1))
        return state.hidden, Tape(given, (opened, state.cell))
    state = State(*(gates.new_empty(*gates.shape[:-1], cell.shape[-1]) for _ in range(2)))
    arrays = {"gates": gates, "base": base, "cell_before": cell, "opened": gates}
    _call("lstm_last", _of_points(gates), arrays | state._asdict())
    return state.hidden, Tape(given, (gates, state.cell))


def last_back(tape: Tape, along: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients along gates, base and cell from that along s."""
    gates, base, before = tape.given
    assert gates is not None and base is not None and before is not None
    opened, cell = tape.kept
    if not _covers(gates):
        state = State(along, torch.zeros_like(along))
        of_gates, of_cell = _cell_back(opened, cell, before.unsqueeze(1), state)
        return of_gates, of_gates.sum(1), of_cell.sum(1)
    found = torch.empty_like(gates), torch.empty_like(base), torch.empty_like(before)
    arrays = {"cell_before": before, "opened": opened, "cell": cell, "along_hidden": along}
    names = "along_gates", "along_base", "along_cell_before"
    arrays |= dict(zip(names, found, strict=True))
    _call("lstm_last_back", _of_points(gates), arrays)
    return found


def _of_points(gates: Tensor) -> ctypes.Structure:
    sequences, points, width = gates.shape
    return LAST(sequences=sequences, points=points, units=width // 4)


def _covers(gates: Tensor) -> bool:
    """Return whether the kernel can compute."""
    return engine.name() == "fused" and gates.dtype in C_TYPES and gates.is_cpu


def _call(operation: str, call: ctypes.Structure, arrays: Mapping[str, Tensor | None]) -> None:
    """Call the kernel with contiguous arrays of one type.

    Raises:
        MemoryError: It could not allocate its workspace.
        ValueError: An array is not contiguous, or of another type.
    """
    types = {t.dtype for t in arrays.values() if t is not None} - {torch.bool}
    if len(types) > 1:
        raise ValueError(f"arrays must be of one type, got {' and '.join(sorted(map(str, types)))}")
    (dtype,) = types
    for name, array in arrays.items():
        if array is None:
            continue
        if not array.is_contiguous():
            raise ValueError(f"{name} must be contiguous, got the strides {array.stride()}")
        setattr(call, name, array.data_ptr())
    function = getattr(engine.library(), f"{operation}_{str(dtype).removeprefix('torch.')}")
    if function(ctypes.byref(call)):
        raise MemoryError(f"not enough memory for {operation}")


# The same on torch.


def _read(gates: Tensor, weight: Tensor, known: Tensor | None) -> tuple[State, Tape]:
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
    return State(hidden[-1], cell[-1]), Tape((gates, weight, known), kept)


def _read_back(tape: Tape, along: State) -> tuple[Tensor, Tensor]:
    (_, weight, known), (hidden, cell, all_opened) = tape
    assert weight is not None
    transposed = weight.mT.contiguous()
    found = []
    for k in reversed(range(len(all_opened))):
        of_gates, of_cell = _cell_back(all_opened[k], cell[k + 1], cell[k], along)
        if known is not None:
            is_read = known[:, :, k, None]
            of_gates, of_cell = of_gates * is_read, of_cell.where(is_read, along.cell)
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
