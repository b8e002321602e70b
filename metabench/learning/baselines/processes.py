"""Gaussian processes: posterior means, and kernels fitted to training tasks.

    RBF        k(x, x') = v exp(-|x - x'|^2 / 2 l^2)
    periodic   k(x, x') = v exp(-2 sin^2(pi (x - x') / p) / l^2)

Reference: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, equations 2.25,
    2.30 and 4.31.
"""

from __future__ import annotations

from math import pi
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metabench.learning.predictive import Predictive
from metabench.learning.tasks import Points, TaskBlock

TASKS, SHOTS = 200, 10
"""Numbers of training tasks, and of points of each, to which a kernel is fitted."""

NOISE = 1e-6
"""The least variance of the noise relative to that of the function. It keeps covariances positive
definite.
"""


class Kernel(NamedTuple):
    """A kernel with the variance of the noise, which is added to the diagonal of covariances.

    Args:
        variance: v.
        length_scale: l, the same for all features.
        noise: Variance of the noise on support labels.
        period: p; None selects the RBF kernel.
    """

    variance: float
    length_scale: float
    noise: float
    period: float | None = None

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return k ``(task, point of a, point of b)`` at inputs ``(task, point, feature)``."""
        # Differences, and not |a|^2 - 2 a b + |b|^2, which loses digits if points are close.
        exponent = torch.zeros((), dtype=a.dtype)
        for n in range(a.shape[-1]):
            difference = a[..., [n]] - b[..., [n]].mT
            if self.period is None:
                exponent = exponent + (difference / self.length_scale).square() / 2
            else:
                sine = torch.sin(pi * difference / self.period)
                exponent = exponent + 2 * (sine / self.length_scale).square()
        return self.variance * torch.exp(-exponent)

    def with_noise(self, deviation: float) -> Kernel:
        """Return the kernel for labels with noise of a standard deviation."""
        return self._replace(noise=max(deviation**2, NOISE * self.variance))

    def covariance(self, x: Tensor) -> Tensor:
        """Return the covariance of labels at inputs ``(task, point, feature)``."""
        return self(x, x) + self.noise * torch.eye(x.shape[-2], dtype=x.dtype)


def posterior(kernel: Kernel, support: Points, x: Tensor) -> Predictive:
    """Return the posterior of a Gaussian process with prior mean 0."""
    factor = torch.linalg.cholesky(kernel.covariance(support.x))
    weights = torch.cholesky_solve(support.y, factor)  # (task, shots, 1)
    across = kernel(x.expand(len(support.x), *x.shape[-2:]), support.x)  # (task, point, shots)
    half = torch.linalg.solve_triangular(factor, across.mT, upper=False)
    # k(x, x) is v. What the support points explain of it is subtracted, and may exceed it by
    # rounding.
    left = (kernel.variance - half.square().sum(-2)).clamp_min(0)
    return Predictive(across @ weights, left[..., None] + kernel.noise)


def log_likelihood(kernel: Kernel, points: Points) -> float:
    """Return the mean log marginal likelihood of a task's labels, or -inf if it is undefined."""
    factor, failed = torch.linalg.cholesky_ex(kernel.covariance(points.x))
    if failed.any():
        return -np.inf
    weights = torch.cholesky_solve(points.y, factor)
    fit = (points.y * weights).sum((-2, -1)) / 2
    volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return float(-(fit + volume + points.x.shape[-2] / 2 * np.log(2 * pi)).mean())


def fitted(tasks: TaskBlock, period: float | None) -> Kernel:
    """Return the kernel that maximizes the likelihood of training tasks, to three digits.

    Args:
        tasks: Training tasks, of which the first `TASKS` are used.
        period: Period of the kernel, if any.
    """
    from scipy.optimize import minimize

    x, y = tasks.support(SHOTS)
    points = Points(x[:TASKS, 0, 0], y[:TASKS, 0, 0])

    def kernel(logarithms: NDArray[np.float64]) -> Kernel:
        variance, length_scale, noise = np.exp(logarithms).tolist()
        return Kernel(variance, length_scale, variance * (NOISE + noise), period)

    spread = float(points.y.square().mean())
    start = np.log([spread, 1.0, 1e-3])
    best = minimize(
        lambda logarithms: -log_likelihood(kernel(logarithms), points),
        start,
        method="Nelder-Mead",
        bounds=[(-10, 25), (-5, 5), (-20, 5)],
        options={"xatol": 1e-5, "fatol": 1e-7, "maxiter": 2000},
    )
    # The last bits of the search differ between processors, so keep only three digits.
    variance, length_scale, noise = (float(f"{value:.3g}") for value in kernel(best.x)[:3])
    return Kernel(variance, length_scale, noise, period)
