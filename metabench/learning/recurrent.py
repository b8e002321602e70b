"""An LSTM that reads labelled points one after another, as one learned vector.

    (i, f, g, o) = (x_k, y_k) W + a + s_{k-1} V + b             s and c begin at 0
    c_k = sigma(f) c_{k-1} + sigma(i) tanh(g),    s_k = sigma(o) tanh(c_k)

The learned vector is [W, a, V, b]. The order of points matters.

Reference: Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735, with the forget gate of
    Gers et al. 2000, doi:10.1162/089976600300015015.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.autograd.function import once_differentiable

from metabench.learning.engine import lstm
from metabench.learning.engine.lstm import State
from metabench.learning.fields import Count
from metabench.learning.hyperparameters import Word
from metabench.learning.linear import product
from metabench.learning.network import Network
from metabench.learning.tasks import Points

Units = Annotated[Count, Field(description="Number of units of the LSTM."), Word("units")]

PARTS = 2
"""Number of networks of an LSTM."""


@dataclass(frozen=True)
class LSTM:
    """An LSTM with one layer.

    Args:
        network: A network with the inputs x, whose kind of initial weights the LSTM has.
        units: Number of its units.
    """

    network: Network
    units: int

    @cached_property
    def parts(self) -> list[Network]:
        """Its two networks without hidden layers, from a labelled point and from s to the gates."""
        inputs = self.network.widths[0] + 1, self.units
        return [replace(self.network, widths=(width, 4 * self.units)) for width in inputs]

    @property
    def parameters(self) -> int:
        """Length of the learned vector."""
        return sum(part.parameters for part in self.parts)

    def initialize(self, seed: int, first: int) -> Tensor:
        """Return the initial weights of a seed, ``(M,)``, float64.

        Args:
            seed: The training seed.
            first: Index of the first of its networks among those of the algorithm.
        """
        return torch.cat([part.initialize(seed, first + n) for n, part in enumerate(self.parts)])

    def read(self, theta: Tensor, points: Points, known: Tensor | None = None) -> State:
        """Return the state after a sequence of points. Sequences do not interact.

        Args:
            theta: ``(..., M)``.
            points: ``(..., sequence, shots, feature)``, leading axes broadcast to those of theta.
            known: Whether a point is read or left out, ``(..., sequence, shots, 1)`` bool; by
                default, all are read.

        Returns:
            ``(..., sequence, unit)``.
        """
        stack = theta.shape[:-1]
        pairs = _flat(torch.cat([points.x, points.y], dim=-1), stack)
        is_read = None if known is None else _flat(known, stack).expand(*pairs.shape[:-1], 1)
        found = _Reading.apply(_flat(theta, stack, 1), pairs, is_read, self)
        return State(*(part.view(*stack, *part.shape[1:]) for part in found))

    def features(self, theta: Tensor, state: State, x: Tensor) -> Tensor:
        """Return s after one more point without a label, (x, 0). Points do not interact.

        Args:
            theta: ``(..., M)``.
            state: ``(..., sequence, unit)``.
            x: ``(..., sequence, point, feature)``.

        Returns:
            ``(..., sequence, point, unit)``.
        """
        stack = theta.shape[:-1]
        given = _flat(theta, stack, 1), *(_flat(part, stack, 2) for part in state)
        x = x.expand(*x.shape[:-3], state.cell.shape[-2], *x.shape[-2:])
        hidden = _Last.apply(*given, _flat(x, stack), self)
        return hidden.view(*stack, *hidden.shape[1:])

    def weights(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return W ``(stack, feature + 1, 4 * unit)``, V ``(stack, unit, 4 * unit)`` and a + b."""
        of_points, of_hidden = self.parts
        first, second = theta.split([part.parameters for part in self.parts], dim=-1)
        ((weight, bias),), ((recurrent, other),) = of_points.layers(first), of_hidden.layers(second)
        return weight, recurrent, bias + other


def at_each(part: tuple[Network, Tensor], z: Tensor) -> Tensor:
    """Return the outputs of a network for each point ``(..., sequence, point, feature)``."""
    network, theta = part
    return network.predict(theta, z.flatten(-3, -2)).unflatten(-2, z.shape[-3:-1])


def _flat(values: Tensor, stack: torch.Size, own: int = 3) -> Tensor:
    """Return values with one axis for the whole stack, ahead of their own axes."""
    shape = values.shape[-own:]
    return values.expand(*stack, *shape).reshape(stack.numel(), *shape)


class _Reading(torch.autograd.Function):
    """The state after all points, as one node of autograd's graph.

    dL/dz_k by `lstm.read_back`,   dL/dW = sum_k (x_k, y_k)^T dL/dz_k,   dL/da = sum_k dL/dz_k
    """

    @staticmethod
    def forward(
        ctx: Any, theta: Tensor, pairs: Tensor, known: Tensor | None, of: LSTM
    ) -> tuple[Tensor, Tensor]:
        """Return s and c ``(stack, sequence, unit)``.

        Args:
            ctx: What `backward` needs.
            theta: ``(stack, M)``.
            pairs: x and y of each point, ``(stack, sequence, shots, feature + 1)``.
            known: Whether a point is read, ``(stack, sequence, shots, 1)`` bool, or None.
            of: The LSTM.
        """
        weight, recurrent, bias = of.weights(theta)
        points = pairs.flatten(1, 2)
        gates = product(points, weight).add_(bias).unflatten(1, pairs.shape[1:3])
        is_read = None if known is None else known.squeeze(-1).contiguous()
        state, tape = lstm.read(gates, recurrent.contiguous(), is_read)
        ctx.kept = points, tape
        return state.hidden, state.cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *along: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient along theta."""
        points, tape = ctx.kept
        gates, recurrent = lstm.read_back(tape, State(*(part.contiguous() for part in along)))
        gates = gates.flatten(1, 2)
        bias = gates.sum(1)
        weight = product(points.mT.contiguous(), gates)
        parts = weight.flatten(1), bias, recurrent.flatten(1), bias
        return torch.cat(parts, dim=-1), None, None, None


class _Last(torch.autograd.Function):
    """s after one more point, as one node of autograd's graph.

    z = x W_x + (s V + a + b),   W_x the rows of W for x, since the label is 0
    """

    @staticmethod
    def forward(
        ctx: Any, theta: Tensor, hidden: Tensor, cell: Tensor, x: Tensor, of: LSTM
    ) -> Tensor:
        """Return s after, ``(stack, sequence, point, unit)``.

        Args:
            ctx: What `backward` needs.
            theta: ``(stack, M)``.
            hidden: s before, ``(stack, sequence, unit)``.
            cell: c before, likewise.
            x: ``(stack, sequence, point, feature)``.
            of: The LSTM.
        """
        weight, recurrent, bias = of.weights(theta)
        points = x.flatten(1, 2)
        of_x = weight[:, :-1]
        gates = points * of_x if of_x.shape[1] == 1 else product(points, of_x)
        base = product(hidden, recurrent).add_(bias).flatten(0, 1)
        by_sequence = gates.reshape(len(base), -1, 4 * of.units)
        after, tape = lstm.last(by_sequence, base, cell.reshape(-1, of.units).contiguous())
        ctx.kept = points, hidden, recurrent, tape
        return after.view(*x.shape[:-1], of.units)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, along: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Return the gradients along theta, s and c."""
        points, hidden, recurrent, tape = ctx.kept
        stack, sequences, units = hidden.shape
        gates, base, cell = lstm.last_back(tape, along.flatten(0, 1).contiguous())
        base = base.view(stack, sequences, 4 * units)
        weight = product(points.mT.contiguous(), gates.view(stack, -1, 4 * units)).flatten(1)
        bias = base.sum(1)
        of_recurrent = product(hidden.mT.contiguous(), base).flatten(1)
        # The row of W for the label, which is 0, has no part.
        parts = weight, torch.zeros_like(bias), bias, of_recurrent, bias
        of_hidden = product(recurrent, base.mT.contiguous()).mT  # a copy of base is the smaller one
        return torch.cat(parts, dim=-1), of_hidden, cell.view_as(hidden), None, None
