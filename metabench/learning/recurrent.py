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
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from metabench.learning.fields import Count
from metabench.learning.hyperparameters import Word
from metabench.learning.linear import product
from metabench.learning.network import Network
from metabench.learning.tasks import Points

Units = Annotated[Count, Field(description="Number of units of the LSTM."), Word("units")]

PARTS = 2
"""Number of networks of an LSTM."""


class State(NamedTuple):
    """What an LSTM knows after some points."""

    hidden: Tensor
    """s, ``(..., unit)``."""
    cell: Tensor
    """c, ``(..., unit)``."""


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
            points: ``(..., sequence, shots, feature)``.
            known: Whether a point is read or left out, ``(..., sequence, shots, 1)`` bool; by
                default, all are read.

        Returns:
            ``(..., sequence, unit)``.
        """
        of_points, (weight, bias) = self._split(theta)
        pairs = torch.cat([points.x, points.y], dim=-1)
        gates = at_each(of_points, pairs) + bias.unsqueeze(-2)  # (..., sequence, shots, 4 unit)
        zeros = gates.new_zeros(*gates.shape[:-2], self.units)
        state = State(zeros, zeros)
        for k, of_point in enumerate(gates.unbind(-2)):
            after = _after(state, of_point + product(state.hidden, weight))
            if known is not None:
                is_read = known[..., k, :]
                after = State(*(a.where(is_read, b) for a, b in zip(after, state, strict=True)))
            state = after
        return state

    def features(self, theta: Tensor, state: State, x: Tensor) -> Tensor:
        """Return s after one more point without a label, (x, 0). Points do not interact.

        Args:
            theta: ``(..., M)``.
            state: ``(..., sequence, unit)``.
            x: ``(..., sequence, point, feature)``.

        Returns:
            ``(..., sequence, point, unit)``.
        """
        of_points, (weight, bias) = self._split(theta)
        unlabelled = torch.cat([x, torch.zeros_like(x[..., :1])], dim=-1)
        gates = (product(state.hidden, weight) + bias).unsqueeze(-2)
        before = State(*(part.unsqueeze(-2) for part in state))
        return _after(before, gates + at_each(of_points, unlabelled)).hidden

    def _split(self, theta: Tensor) -> tuple[tuple[Network, Tensor], tuple[Tensor, Tensor]]:
        """Return the network of labelled points with its weights, and V and b."""
        of_points, of_hidden = self.parts
        first, second = theta.tensor_split([of_points.parameters], dim=-1)
        (layer,) = of_hidden.layers(second)
        return (of_points, first), layer


def at_each(part: tuple[Network, Tensor], z: Tensor) -> Tensor:
    """Return the outputs of a network for each point ``(..., sequence, point, feature)``."""
    network, theta = part
    return network.predict(theta, z.flatten(-3, -2)).unflatten(-2, z.shape[-3:-1])


def _after(state: State, gates: Tensor) -> State:
    """Return the state after one point, whose gates are ``(..., 4 * unit)``."""
    i, f, g, o = _opened(gates).unbind(-2)
    cell = f * state.cell + i * g
    return State(o * torch.tanh(cell), cell)


def _opened(gates: Tensor) -> Tensor:
    """Return sigma(i), sigma(f), tanh(g) and sigma(o), ``(..., 4, unit)``.

    sigma(z) is (1 + tanh(z / 2)) / 2, so one tanh serves all. torch's own sigmoid rounds by the
    place of a number in a tensor, and so by that of a run in its stack.
    """
    slopes = gates.new_tensor([[0.5], [0.5], [1.0], [0.5]])
    return torch.tanh(slopes * gates.unflatten(-1, (4, -1))) * slopes + (1 - slopes)
