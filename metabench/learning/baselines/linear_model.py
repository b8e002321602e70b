"""A linear meta-learner: a Bayesian linear model on the principal components of training tasks.

    f(x) = m(x) + sum_k w_k phi_k(x),   w_k ~ N(0, variance_k),   y = f(x) + noise

m and phi are the mean and the principal components of the labels of training tasks on the grid. A
cubic spline interpolates between grid points. Waves of one frequency have two components, so five
points determine the whole wave. If the tasks span few dimensions, meta-learning by gradient descent
is not needed.

Reference: Harrison, Sharma and Pavone 2018, "Meta-learning priors for efficient online Bayesian
    regression" (ALPaCA), arXiv:1807.08912. The features here come from a principal component
    analysis.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metabench.learning.baselines.predictor import Posterior
from metabench.learning.held_out import HeldOut
from metabench.learning.predictive import Predictive
from metabench.learning.scores import scores
from metabench.learning.tasks import Points, TaskBlock

RANKS = 16
"""The largest number of components."""

SMALLEST = 1e-10
"""Components whose variance, relative to the first, is below this are rounding errors."""

NOISES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for the variance of the noise, relative to that of the first component."""


class Components(NamedTuple):
    """The mean and the principal components of training tasks.

    Args:
        axes: Coordinates of the grid, for each feature.
        values: Mean and components on the grid, ``(1 + component, *grid)``.
        variances: ``(component,)``.
    """

    axes: tuple[NDArray[np.float64], ...]
    values: NDArray[np.float64]
    variances: Tensor

    def at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean ``(..., 1)`` and components ``(..., component)`` at x ``(..., feature)``."""
        from scipy.interpolate import RegularGridInterpolator

        method = "cubic" if len(self.axes[0]) > 3 else "linear"  # a cubic spline needs four points
        interpolate = RegularGridInterpolator(
            self.axes,
            np.moveaxis(self.values, 0, -1),
            method=method,
            bounds_error=False,
            fill_value=None,  # extrapolate
        )
        values = torch.from_numpy(interpolate(x.numpy()))
        return values[..., :1], values[..., 1:]


def learned(tasks: TaskBlock) -> Components:
    """Return the mean and the principal components of training tasks on the grid."""
    distribution = tasks.stream.distribution
    y = tasks.query().y[:, 0, 0, :, 0].numpy()  # (task, point)
    mean = y.mean(0)
    centred = y - mean
    variances, vectors = np.linalg.eigh(centred.T @ centred / len(y))
    kept = variances > SMALLEST * variances[-1]
    variances, vectors = variances[kept][: -1 - RANKS : -1], vectors[:, kept][:, : -1 - RANKS : -1]
    # The sign of an eigenvector is arbitrary. Make its largest number positive.
    largest = np.abs(vectors).argmax(0)
    vectors = vectors * np.sign(vectors[largest, range(vectors.shape[1])])
    # The last bits of LAPACK differ between processors, so keep only single precision.
    rows = np.vstack([mean, vectors.T]).astype(np.float32).astype(np.float64)
    features = distribution.features
    axis = np.linspace(*distribution.domain, distribution.grid_points)
    values = rows.reshape(-1, *[distribution.grid_points] * features)
    rounded = torch.from_numpy(variances.astype(np.float32).astype(np.float64))
    return Components((axis,) * features, values, rounded)


def posterior(
    components: Components, rank: int, noise: float, support: Points, x: Tensor
) -> Predictive:
    """Return the posterior of the first `rank` components; `noise` is a variance."""
    mean, phi = components.at(support.x)
    phi = phi[..., :rank]
    precision = phi.mT @ phi / noise + torch.diag(1 / components.variances[:rank])
    factor = torch.linalg.cholesky(precision)
    weights = torch.cholesky_solve(phi.mT @ (support.y - mean) / noise, factor)  # (task, rank, 1)
    mean_at_x, phi_at_x = components.at(x)
    phi_at_x = phi_at_x[..., :rank]
    half = torch.linalg.solve_triangular(factor, phi_at_x.mT, upper=False)  # (task, rank, point)
    variance = half.square().sum(-2)[..., None] + noise
    return Predictive(mean_at_x + phi_at_x @ weights, variance)


def training_mean(components: Components, support: Points, x: Tensor) -> Tensor:
    """Predict the mean of the training tasks, whatever the support set."""
    mean, _ = components.at(x)
    return mean.expand(len(support.x), -1, -1)


def chosen(components: Components, validation: HeldOut) -> Posterior:
    """Return the posterior with the rank and noise of the least mean score on a validation bank."""
    zero = validation.query.y.square().mean((-2, -1)).numpy()
    candidates = [
        partial(posterior, components, rank, noise * float(components.variances[0]))
        for rank, noise in product(range(1, 1 + len(components.variances)), NOISES)
    ]

    def score(candidate: Posterior) -> float:
        error = candidate(validation.support, validation.query.x).mean - validation.query.y
        return float(scores(error.square().mean((-2, -1)).numpy(), zero).mean())

    return min(candidates, key=score)
