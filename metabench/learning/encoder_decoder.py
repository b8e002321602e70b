"""An encoder of support sets and a decoder that predicts: the parts of a neural process.

    r = mean over the support set of e(x, y)         encoder e: inputs x and y, C outputs
    f(x | support) = d(x, r)                         decoder d: inputs x and r

Both have the hidden layers of a network, and the decoder has its outputs.

Two shortcuts save work. The output layer of e is linear, so r is its value at the mean features.
r is the same at all points, so as an input of d it only shifts the biases of the first layer by
r W_r. The learned vector is [encoder, decoder without W_r, W_r].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.linear import product
from metabench.learning.network import Network
from metabench.learning.tasks import Points

Labels = Callable[[Tensor, Tensor], Tensor]
"""Function of outputs and labels that returns other labels."""


class Parts(NamedTuple):
    """The parts of the learned vector."""

    encoder: Tensor
    """Parameters of the encoder, ``(..., n)``."""
    decoder: Tensor
    """Parameters of the decoder without W_r, ``(..., P)``."""
    weight: Tensor
    """W_r, ``(..., C, width)``."""


@dataclass(frozen=True)
class EncoderDecoder:
    """An encoder and a decoder.

    Args:
        network: The decoder without r. The encoder has its hidden layers.
        context: C, the number of values that describe a support set.
    """

    network: Network
    context: int

    @cached_property
    def encoder(self) -> Network:
        """The encoder."""
        x, *hidden, _ = self.network.widths
        return replace(self.network, widths=(x + 1, *hidden, self.context))

    def begin(self, seeds: tuple[int, ...]) -> Tensor:
        """Return the initial weights of the encoder and the decoder of each seed, ``(run, M)``.

        The decoder is initialized as a network with the inputs x and r.
        """
        x, *others = self.network.widths
        width, whole = others[0], replace(self.network, widths=(x + self.context, *others))
        encoders = torch.stack([self.encoder.initialize(seed, 0) for seed in seeds])
        decoders = torch.stack([whole.initialize(seed, 1) for seed in seeds])
        ends = x * width, (x + self.context) * width
        of_x, of_r, rest = decoders.tensor_split(ends, dim=-1)
        return torch.cat([encoders, of_x, rest, of_r], dim=-1)

    def parts(self, theta: Tensor) -> Parts:
        """Return the parts of theta ``(..., M)``, as views."""
        length = self.encoder.parameters
        ends = length, length + self.network.parameters
        encoder, decoder, weight = theta.tensor_split(ends, dim=-1)
        return Parts(encoder, decoder, weight.unflatten(-1, (self.context, -1)))

    def predict(self, theta: Tensor, x: Tensor, support: Points | None = None) -> Tensor:
        """Return f(x | support), or d(x, 0) without a support set.

        Args:
            theta: ``(..., M)``.
            x: ``(..., point, feature)``.
            support: ``(..., shots, feature)``.

        Returns:
            ``(..., point, output)``.
        """
        parts = self.parts(theta)
        if support is None:
            return self.network.predict(parts.decoder, x)
        weight, bias = self.encoder.layers(parts.encoder)[-1]
        mean = self.encoder.features(parts.encoder, _pairs(support)).mean(-2, keepdim=True)
        shift = product(product(mean, weight) + bias, parts.weight).squeeze(-2)
        return self.network.predict(parts.decoder, x, shift)

    def gradient(
        self, theta: Tensor, support: Points, query: Points, labels: Labels | None = None
    ) -> Tensor:
        """Sum over tasks the gradient of the loss on the query set given the support set.

        Args:
            theta: ``(run, M)``.
            support: ``(run, task, shots, feature)``. Points with the label nan are left out.
            query: x ``(point, feature)`` or ``(run, task, point, feature)``, y ``(run, task, point,
                .)``.
            labels: Function of outputs and y that returns labels. The loss is the squared error to
                them, and to y by default.

        Returns:
            The sum, ``(run, M)``.
        """
        parts, (points, known) = self.parts(theta), support.known()
        weight, bias = self.encoder.layers(parts.encoder)[-1]  # output layer, (run, width, C)
        inputs = _pairs(points).flatten(1, 2)  # of all tasks, in one pass through a run's encoder
        hidden = self.encoder.hidden(parts.encoder, inputs)
        count = known.sum(2)  # (run, task, 1)
        mean = (hidden.last.unflatten(1, known.shape[1:3]) * known).sum(2) / count
        r = product(mean, weight) + bias

        (x, y), shift = query, product(r, parts.weight)
        copies = one_copy_per_task(parts.decoder, y.shape[1])
        if labels is not None:
            y = labels(self.network.predict(copies, x, shift), y)
        along_decoder, along_shift = self.network.shifted_gradient(copies, shift, x, y)

        along_r = product(along_shift, parts.weight.mT)
        at_mean = product(along_r, weight.mT) / count
        at_features = (at_mean.unsqueeze(2) * known).flatten(1, 2)
        along_hidden = self.encoder.pulled_back(parts.encoder, inputs, hidden, at_features)
        along_output = product(mean.mT, along_r).flatten(1), along_r.sum(1)
        along_weight = product(r.mT, along_shift).flatten(1)
        return torch.cat([along_hidden, *along_output, along_decoder, along_weight], dim=-1)


def _pairs(points: Points) -> Tensor:
    """Return x and y concatenated, ``(..., point, feature + 1)``."""
    return torch.cat([points.x.expand(*points.y.shape[:-1], -1), points.y], dim=-1)
