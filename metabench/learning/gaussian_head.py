"""A Gaussian head: the two outputs of a network as a normal distribution of a label.

    y ~ N(m, s^2),    (m, z) = outputs,    s = 0.1 + 0.9 log(1 + e^z)

The lower bound keeps the likelihood of a label that is met exactly finite.

Reference: the code of Garnelo et al. 2018, arXiv:1807.01613, which has this bound.
"""

from __future__ import annotations

from math import log, pi

import torch
from torch import Tensor

from metabench.learning.predictive import Predictive

LEAST_DEVIATION = 0.1


def distribution(outputs: Tensor) -> Predictive:
    """Return the distributions of labels that outputs ``(..., point, 2)`` mean."""
    mean, z = outputs.split(1, dim=-1)
    deviation, _ = _deviation(z)
    return Predictive(mean, deviation.square())


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    """Return the mean negative log likelihood of labels ``(..., point, 1)``, ``(...,)``."""
    mean, variance = distribution(outputs)
    distance = (y - mean).square() / variance
    return (log(2 * pi) + variance.log() + distance).mean((-2, -1)) / 2


def stand_in(outputs: Tensor, y: Tensor) -> Tensor:
    """Return labels of the outputs, by whose squared error they have the gradient of `loss`.

        d/df mean (f - label)^2 = 2 (f - label) / n = d loss / df    at the outputs f

    So a gradient of the squared error, which a network computes, is that of the likelihood.

    Args:
        outputs: ``(..., point, 2)``.
        y: Labels, ``(..., point, 1)``.

    Returns:
        ``(..., point, 2)``.
    """
    return outputs - gradient(outputs, y) * (outputs.shape[-2:].numel() / 2)


def gradient(outputs: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of `loss` with respect to the outputs, ``(..., point, 2)``.

    With e = y - m, q = e^2 / s^2, n points and log(1 + e^z) = (z + |z|) / 2 + log(1 + e^-|z|):

        dL/dm = -e / (n s^2),    dL/d(s^2) = (1 - q) / (2 n s^2)
        ds/dz = 0.9 (1 / 2 + (1 / 2 - e^-|z| / (1 + e^-|z|)) sign z)

    Arguments are those of `loss`. The bits are those of autograd, which takes three times as long.
    """
    mean, z = outputs.split(1, dim=-1)
    (deviation, decay), error = _deviation(z), y - mean
    variance = deviation.square()
    half = torch.full_like(variance, 0.5).div_(y.shape[-2])  # 1 / 2n
    of_variance = half / variance - half * (error.square() / variance / variance)
    of_softplus = of_variance * (2 * deviation) * (1 - LEAST_DEVIATION)
    of_size = of_softplus / 2 - of_softplus / (decay + 1) * decay  # along |z|
    of_z = of_softplus / 2 + of_size * z.sign()
    return torch.cat([-(half / variance * (2 * error)), of_z], dim=-1)


def _deviation(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return s, and e^-|z|.

    torch's own log(1 + e^z) rounds by the place of a number in a tensor, and so by that of a run in
    its stack.
    """
    size = z.abs()
    decay = torch.exp(-size)
    softplus = (z + size) / 2 + torch.log1p(decay)
    return LEAST_DEVIATION + (1 - LEAST_DEVIATION) * softplus, decay
