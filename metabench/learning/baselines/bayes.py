"""The best prediction of a wave, given noisy points and the distribution of waves.

    E[f(x) | support points],    f(x) = A sin(w x + phi)
    Var(y | support points) = E[f(x)^2 | .] - E[f(x) | .]^2 + noise^2

No predictor has a lower expected loss. The expectation is a sum over phase (midpoint rule),
frequency and amplitude (Gauss-Legendre quadrature). Where noise is normal, the nodes of the
amplitude cover the support of its conditional density; where it has heavy tails, its whole
interval. Without noise there is no density, but then two points determine a wave of frequency 1:
see the baseline least-squares. Growing noise vanishes at the center of the domain, and with it the
width of the posterior.

Reference: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, section 2.4: the
    posterior mean minimizes the expected squared error.
"""

from __future__ import annotations

from math import ceil, pi, prod, sqrt

import numpy as np
import torch
from torch import Tensor

from metabench.learning.predictive import Predictive
from metabench.learning.tasks import Points, SineDistribution, TaskDistribution

SHOTS = 50
"""The largest number of support points for which the nodes are dense enough."""

SPACING = 1.3
"""Distance between nodes, in standard deviations of the narrowest posterior. With this distance, a
sum over nodes gives the integral of a normal density to a relative error of 1e-5.
"""

AMPLITUDES, REACH = 16, 7.0
"""Number of nodes of the amplitude, and their reach on either side in standard deviations."""

MAX_NODES = 200_000
"""The largest number of nodes of phase and frequency, or of phase and amplitude where these nodes
are the same for all. Studies that need more have no such baseline.
"""

DEGREES = 3
"""Degrees of freedom of heavy-tailed noise, those of `randomness.students`."""

CHUNK = 4_000_000
"""The largest number of values in memory at a time."""


def possible(tasks: TaskDistribution) -> bool:
    """Return whether the best prediction can be computed for these tasks."""
    if not isinstance(tasks, SineDistribution) or not tasks.noise or tasks.noise_kind == "growing":
        return False
    if tasks.noise_kind == "heavy-tailed" and tasks.frequency is not None:
        return False
    phases, frequencies, amplitudes = _nodes(tasks)
    shared = amplitudes if tasks.noise_kind == "heavy-tailed" else 1
    return phases * frequencies * shared <= MAX_NODES


def posterior(tasks: SineDistribution, support: Points, x: Tensor) -> Predictive:
    """Return the mean and the variance of labels, given the support points.

    Args:
        tasks: Distribution of the held-out tasks, including the noise.
        support: ``(task, shots, 1)``.
        x: Query points, ``(point, 1)`` or ``(task, point, 1)``.

    Returns:
        ``(task, point, 1)``, float64.
    """
    at_once = max(1, CHUNK // prod(_nodes(tasks)))
    by_task = x.expand(len(support.x), *x.shape[-2:])[..., 0]
    chunks = [
        _posterior(tasks, support.at(slice(n, n + at_once)), by_task[n : n + at_once])
        for n in range(0, len(by_task), at_once)
    ]
    mean, square = (torch.cat(parts)[..., None] for parts in zip(*chunks, strict=True))
    return Predictive(mean, (square - mean.square()).clamp_min(0) + tasks.noise**2)


def _nodes(tasks: SineDistribution) -> tuple[int, int, int]:
    """Return the numbers of nodes of phase, frequency and amplitude.

    They suffice for the narrowest posterior, which is that of the largest wave with the most
    support points.
    """
    (low, high), largest = tasks.domain, max(map(abs, tasks.amplitude))
    # 1 / standard deviation of the amplitude: its Fisher information is sum sin(.)^2 / noise^2, and
    # the mean of sin^2 is 1/2. That of the phase is sum (A cos(.))^2 / noise^2.
    sharpness = sqrt(SHOTS / 2) / tasks.noise
    amplitudes = AMPLITUDES
    if tasks.noise_kind == "heavy-tailed":
        # Of n degrees of freedom and variance 1: n (n + 1) / ((n - 2) (n + 3)) instead of 1.
        sharpness *= sqrt(DEGREES * (DEGREES + 1) / ((DEGREES - 2) * (DEGREES + 3)))
        # Gauss-Legendre nodes in the middle are pi / 2 times as far apart as on average.
        amplitudes = max(64, ceil(np.ptp(tasks.amplitude) * sharpness * pi / 2 / SPACING))
    phases = max(64, ceil(np.ptp(tasks.phase) * largest * sharpness / SPACING))
    if tasks.frequency is None:
        return phases, 1, amplitudes
    x_rms = sqrt((high**3 - low**3) / (3 * (high - low)))  # d(w x + phi)/dw = x
    spread = np.ptp(tasks.frequency) * largest * x_rms
    return phases, max(16, ceil(spread * sharpness / SPACING)), amplitudes


def _posterior(tasks: SineDistribution, support: Points, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of f and f^2, ``(task, point)``, at x ``(task, point)``."""
    phases, frequencies, _ = _nodes(tasks)
    low, high = tasks.phase
    phi = low + (high - low) * (torch.arange(phases, dtype=torch.float64) + 0.5) / phases
    phi = phi if tasks.sign == "plus" else -phi
    if tasks.frequency is None:
        omega, weight = torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    else:
        omega, weight = _legendre(frequencies, *map(torch.tensor, tasks.frequency))

    likelihood = _heavy_tailed if tasks.noise_kind == "heavy-tailed" else _normal
    amplitude, step, exponent = likelihood(tasks, support, omega, phi)
    largest = exponent.amax((-3, -2, -1), keepdim=True)  # subtracted, so that exp does not overflow
    density = (exponent - largest).exp() * step * weight[:, None, None]

    of_amplitude = (density * amplitude).sum(-1)  # (task, w, phi)
    sine, cosine = of_amplitude @ phi.cos(), of_amplitude @ phi.sin()  # (task, w)
    turns = omega[:, None] * x[:, None]  # (task, w, point)
    wave = (sine[..., None] * turns.sin() + cosine[..., None] * turns.cos()).sum(-2)

    # f^2 = A^2 (1 - cos(2 w x + 2 phi)) / 2
    of_square = (density * amplitude.square()).sum(-1)
    sine, cosine = of_square @ (2 * phi).sin(), of_square @ (2 * phi).cos()
    twice = (sine[..., None] * (2 * turns).sin() - cosine[..., None] * (2 * turns).cos()).sum(-2)
    square = (of_square.sum((-2, -1))[:, None] + twice) / 2

    total = density.sum((-3, -2, -1))[:, None]
    return wave / total, square / total


def _normal(
    tasks: SineDistribution, support: Points, omega: Tensor, phi: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return nodes and weights of the amplitude, and the log-likelihood at all nodes.

    It is without sum y^2, which cancels, ``(task, w, phi, amplitude)``.
    """
    # Sums over the support points of y s and s^2, where s = sin(w x + phi): (task, w, phi). The
    # addition theorems separate x from phi, so no array has both a shot and a phase axis.
    points, y = support.x[..., 0], support.y[..., 0]
    turns = omega[:, None] * points[:, None]  # (task, w, shot)
    labels = y[:, None]
    sine, cosine = (labels * turns.sin()).sum(-1), (labels * turns.cos()).sum(-1)
    ys = sine[..., None] * phi.cos() + cosine[..., None] * phi.sin()
    sine, cosine = (2 * turns).sin().sum(-1), (2 * turns).cos().sum(-1)
    ss = points.shape[-1] - cosine[..., None] * (2 * phi).cos() + sine[..., None] * (2 * phi).sin()

    # Given phase and frequency, the density of the amplitude is normal, truncated to its interval.
    ss = (ss / 2).clamp_min(1e-12)
    mean, deviation = ys / ss, tasks.noise / ss.sqrt()
    amplitude, step = _legendre(AMPLITUDES, *_support_of_density(mean, deviation, *tasks.amplitude))
    exponent = (ys * mean)[..., None] - (amplitude - mean[..., None]).square() * ss[..., None]
    return amplitude, step, exponent / (2 * tasks.noise**2)


def _heavy_tailed(
    tasks: SineDistribution, support: Points, omega: Tensor, phi: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same where noise has Student's t distribution: all tasks have the same nodes."""
    *_, amplitudes = _nodes(tasks)
    amplitude, step = _legendre(amplitudes, *map(torch.tensor, tasks.amplitude))
    exponent = torch.zeros((), dtype=torch.float64)
    for x, y in zip(support.x.unbind(-2), support.y.unbind(-2), strict=True):  # (task, 1)
        wave = (omega[:, None] * x[..., None] + phi).sin()  # (task, w, phi)
        residual = (y[..., None, None] - wave[..., None] * amplitude) / tasks.noise
        exponent = exponent - (DEGREES + 1) / 2 * (residual.square() / (DEGREES - 2)).log1p()
    return amplitude, step, exponent


def _support_of_density(
    mean: Tensor, deviation: Tensor, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """Return the part of an interval that supports a normal density, or the density's tail."""
    reach = (REACH * deviation).clamp_max(high - low)
    start = (mean - reach).clamp_min(low).minimum(high - reach)
    end = (mean + reach).clamp_max(high).maximum(low + reach)
    return start, end


def _legendre(count: int, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return Gauss-Legendre nodes and weights on intervals, ``(..., node)``."""
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(count))
    half = (high - low)[..., None].double() / 2
    return low[..., None] + half * (nodes + 1), half * weights
