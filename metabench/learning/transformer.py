"""A transformer on points, which attend to labelled points, as one learned vector.

    z = e(x, y),  or e(x, 0) without a label       e: a network with the hidden layers of the study
    z <- z + A(norm z),   z <- z + mlp(norm z)     for each block
    output = head(norm z)                          mlp and head: networks with one hidden layer

    A(z)_i = sum over visible keys j of softmax_j(q_i k_j / sqrt(E)) v_j W    for each head

The keys are the labelled points. Each point sees the keys that it is told to, and a key of zeros
with the value 0, so a point that sees no other has A = 0. Points have no positions: their order
matters only through what each of them sees.

Note: norm has no learned scale and shift, since a linear layer follows it.

Reference: Vaswani et al. 2017, arXiv:1706.03762; the norm before each part is that of GPT-2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, pad

from metabench.learning.linear import product
from metabench.learning.network import Network
from metabench.learning.tasks import Points

PARTS = 4
"""Number of networks of a block."""


@dataclass(frozen=True)
class Transformer:
    """A transformer.

    Args:
        network: Its widths are those of x, of e and of the output. z is as wide as e's output, the
            last hidden layer.
        blocks: Number of blocks.
        heads: Number of heads of each block.
    """

    network: Network
    blocks: int
    heads: int

    @cached_property
    def parts(self) -> list[Network]:
        """The networks that it consists of."""
        x, *hidden, outputs = self.network.widths
        width = hidden[-1]
        joined = self.heads * -(-width // self.heads)  # of all heads, which have equal widths
        block = (width, joined), (width, 2 * joined), (joined, width), (width, 2 * width, width)
        shapes = [(x + 1, *hidden), *block * self.blocks, (width, width, outputs)]
        return [replace(self.network, widths=widths) for widths in shapes]

    def begin(self, seeds: tuple[int, ...]) -> Tensor:
        """Return the initial weights of each seed, ``(run, M)``, float64."""
        rows = [
            torch.cat([part.initialize(seed, n) for n, part in enumerate(self.parts)])
            for seed in seeds
        ]
        return torch.stack(rows)

    def outputs(self, theta: Tensor, support: Points, x: Tensor, visible: Tensor) -> Tensor:
        """Return the outputs at points without labels given sets of labelled points.

        Sets do not interact. The keys are the labelled points.

        Args:
            theta: ``(..., M)``.
            support: ``(..., set, shots, feature)``.
            x: ``(..., set, point, feature)``.
            visible: Which keys each point sees, ``(..., set, shots + point, shots)``, or axes that
                broadcast to it.

        Returns:
            ``(..., set, point, output)``.
        """
        vectors = theta.split([part.parameters for part in self.parts], dim=-1)
        embedding, *inner, head = zip(self.parts, vectors, strict=True)
        labels = torch.cat([support.y, torch.zeros_like(x[..., :1])], dim=-2)
        z = _at_each(embedding, torch.cat([torch.cat([support.x, x], dim=-2), labels], dim=-1))
        shots = support.y.shape[-2]
        for first in range(0, PARTS * self.blocks, PARTS):
            of_queries, of_keys, combination, mlp = inner[first : first + PARTS]
            normal = _norm(z)
            q = _at_each(of_queries, normal)
            k, v = _at_each(of_keys, normal[..., :shots, :]).chunk(2, dim=-1)
            z = z + _at_each(combination, self._attention(q, k, v, visible))
            z = z + _at_each(mlp, _norm(z))
        return _at_each(head, _norm(z[..., shots:, :]))

    def given(self, theta: Tensor, support: Points, x: Tensor, visible: Tensor) -> Tensor:
        """Return `outputs` at points ``(..., point, feature)`` given one set ``(..., shots, .)``.

        The leading axes of points broadcast to those of theta.
        """
        stack = theta.shape[:-1]
        support_x, y, x = (t.expand(*stack, *t.shape[-2:]).unsqueeze(-3) for t in (*support, x))
        return self.outputs(theta, Points(support_x, y), x, visible.unsqueeze(-3)).squeeze(-3)

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
        """Return the heads' sums of values, concatenated, ``(..., token, joined)``."""
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for t in (q, k, v))
        scores = product(q, k.mT) / sqrt(q.shape[-1])  # (..., head, token, key)
        scores = scores.masked_fill(~visible.unsqueeze(-3), -torch.inf)
        weights = pad(scores, (0, 1)).softmax(-1)[..., :-1]  # the last is that of the key of zeros
        return product(weights, v).transpose(-3, -2).flatten(-2)


def _at_each(part: tuple[Network, Tensor], z: Tensor) -> Tensor:
    """Apply a network to each token of all sets at once."""
    network, theta = part
    return network.predict(theta, z.flatten(-3, -2)).unflatten(-2, z.shape[-3:-1])


def _norm(z: Tensor) -> Tensor:
    """Return each token with mean 0 and variance 1."""
    return layer_norm(z, z.shape[-1:])
