"""A linear meta-learner: what training tasks have in common, as a linear model.

    f(x) = m(x) + sum_k w_k phi_k(x),   w_k ~ N(0, variance_k),   y = f(x) + noise

m and phi are mean and principal components of the labels of training tasks on the grid, with a cubic
spline between grid points. Waves of one frequency have two components, so that five points give the
whole wave: where the tasks span few dimensions, nothing needs to be meta-learned by gradient
descent.

Reference: Harrison, Sharma and Pavone 2018, "Meta-learning priors for efficient online Bayesian
    regression" (ALPaCA), arXiv:1807.08912, with features that are found by principal
    component analysis.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metabench.learning.baselines.predictor import Predictor
from metabench.learning.evaluation import HeldOut
from metabench.learning.scores import scores
from metabench.learning.tasks import Points, TaskBlock

RANKS = 16
"""Components at most."""

SMALLEST = 1e-10
"""Variance of a component, over that of the first, below which it is rounding."""

NOISES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Variance of the noise, over that of the first component, to choose from."""


class Components(NamedTuple):
    """What training tasks are made of.

    Args:
        axes: Where the grid has its points, for each feature.
        values: Mean and components on the grid, ``(1 + component, *grid)``.
        variances: ``(component,)``.
    """

    axes: tuple[NDArray[np.float64], ...]
    values: NDArray[np.float64]
    variances: Tensor

    def at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean ``(..., 1)`` and components ``(..., component)`` at x ``(..., feature)``."""
        from scipy.interpolate import RegularGridInterpolator

        method = "cubic" if len(self.axes[0]) > 3 else "linear"
        between = RegularGridInterpolator(
            self.axes,
            np.moveaxis(self.values, 0, -1),
            method=method,
            bounds_error=False,
            fill_value=None,
        )
        found = torch.from_numpy(between(x.numpy()))
        return found[..., :1], found[..., 1:]


def learned(tasks: TaskBlock) -> Components:
    """Return mean and principal components of training tasks, as they are seen on the grid."""
    distribution = tasks.stream.distribution
    y = tasks.query().y[:, 0, 0, :, 0].numpy()  # (task, point)
    mean = y.mean(0)
    centred = y - mean
    variances, vectors = np.linalg.eigh(centred.T @ centred / len(y))
    kept = variances > SMALLEST * variances[-1]
    variances, vectors = variances[kept][: -1 - RANKS : -1], vectors[:, kept][:, : -1 - RANKS : -1]
    largest = np.abs(vectors).argmax(0)
    vectors = vectors * np.sign(vectors[largest, range(vectors.shape[1])])
    # Last bits differ between processors.
    rows = np.vstack([mean, vectors.T]).astype(np.float32).astype(np.float64)
    features = distribution.features
    axis = np.linspace(*distribution.domain, distribution.grid_points)
    values = rows.reshape(-1, *[distribution.grid_points] * features)
    rounded = torch.from_numpy(variances.astype(np.float32).astype(np.float64))
    return Components((axis,) * features, values, rounded)


def predict(components: Components, rank: int, noise: float, support: Points, x: Tensor) -> Tensor:
    """Return the posterior mean of the first `rank` components; `noise` is a variance."""
    mean, phi = components.at(support.x)
    phi = phi[..., :rank]
    precision = phi.mT @ phi / noise + torch.diag(1 / components.variances[:rank])
    factor = torch.linalg.cholesky(precision)
    weights = torch.cholesky_solve(phi.mT @ (support.y - mean) / noise, factor)  # (task, rank, 1)
    mean_there, phi_there = components.at(x)
    return mean_there + phi_there[..., :rank] @ weights


def chosen(components: Components, validation: HeldOut) -> Predictor:
    """Return the predictor of the rank and noise whose mean score on a validation bank is least."""
    zero = validation.query.y.square().mean((-2, -1)).numpy()
    candidates = [
        partial(predict, components, rank, noise * float(components.variances[0]))
        for rank, noise in product(range(1, 1 + len(components.variances)), NOISES)
    ]

    def score(candidate: Predictor) -> float:
        error = candidate(validation.support, validation.query.x) - validation.query.y
        return float(scores(error.square().mean((-2, -1)).numpy(), zero).mean())

    return min(candidates, key=score)
