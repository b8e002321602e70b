"""Predictive distributions of labels, and their quality on observed labels.

    y ~ N(mean, variance),    the noise of the label included

    nll          -log density of y: (log(2 pi variance) + (y - mean)^2 / variance) / 2
    deviation    the predicted standard deviation: how sharp the distribution is
    coverage p   1 if y lies in the central interval of probability p, else 0

Each has a value at every query point. The negative log likelihood is a proper scoring rule: no
other distribution has a lower expected value than the true one. Coverage should be p.

Reference: Gneiting and Raftery 2007, "Strictly proper scoring rules, prediction, and estimation",
    doi:10.1198/016214506000001437.
"""

from __future__ import annotations

from math import log, pi
from typing import NamedTuple

import torch
from scipy.special import ndtri
from torch import Tensor

LEVELS = (10, 20, 30, 40, 50, 60, 70, 80, 90)
"""Probabilities of central intervals, in percent."""

MEASURES = ("nll", "deviation", *(f"coverage {level}" for level in LEVELS))
"""What `measures` returns, in this order."""


class Predictive(NamedTuple):
    """Normal distributions of labels at query points."""

    mean: Tensor
    """``(..., point, 1)``."""
    variance: Tensor
    """Positive, ``(..., point, 1)``. It includes the noise of the labels."""


def measures(predicted: Predictive, y: Tensor) -> Tensor:
    """Return every one of `MEASURES` at each query point.

    Args:
        predicted: Distributions of labels, ``(..., task, point, 1)``.
        y: Observed labels of the query points, ``(task, point, 1)``.

    Returns:
        ``(measure, ..., task, point)``.
    """
    distance = (y - predicted.mean).square() / predicted.variance
    nll = (log(2 * pi) + predicted.variance.log() + distance) / 2
    # The central interval of probability p reaches ndtri((1 + p) / 2) deviations on either side.
    reaches = [float(ndtri(0.5 + level / 200)) for level in LEVELS]
    covered = [(distance <= reach**2).to(nll.dtype) for reach in reaches]
    return torch.stack([nll, predicted.variance.sqrt(), *covered])[..., 0]
