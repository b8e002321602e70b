"""The best that can be predicted of a wave, given noisy points and how waves are drawn.

    E[f(x) | support points],    f(x) = A sin(w x + phi)

No predictor has a lower expected loss. The expectation is a sum over phase (midpoints), frequency and
amplitude (Gauss and Legendre's nodes, those of the amplitude where its conditional density lies).
Without noise there is none: two points determine a wave of frequency 1 then, as least squares does.

Reference: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, section 2.4, on why
    the mean of the posterior is what minimizes the expected squared error.
"""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
import torch
from torch import Tensor

from metabench.learning.tasks import Points, SineDistribution, TaskDistribution

SHOTS = 50
"""Support points up to which the nodes are close enough."""

SPACING = 1.3
"""Distance of nodes in standard deviations of the narrowest posterior: a sum over nodes so close
differs from the integral of a normal density by 1e-5 of it.
"""

AMPLITUDES, REACH = 16, 7.0
"""Nodes of the amplitude, and how many standard deviations they reach to either side."""

MOST = 200_000
"""Nodes of phase and frequency at most; narrower posteriors are left out."""

CHUNK = 4_000_000
"""Numbers held at once."""


def possible(tasks: TaskDistribution) -> bool:
    """Return whether the best prediction can be computed for these tasks."""
    if not isinstance(tasks, SineDistribution) or not tasks.noise:
        return False
    phases, frequencies = _nodes(tasks)
    return phases * frequencies <= MOST


def predict(tasks: SineDistribution, support: Points, x: Tensor) -> Tensor:
    """Return the mean of the posterior.

    Args:
        tasks: The distribution that held-out tasks come from, with its noise.
        support: ``(task, shots, 1)``.
        x: Query points, ``(point, 1)`` or ``(task, point, 1)``.

    Returns:
        ``(task, point, 1)``, float64.
    """
    phases, frequencies = _nodes(tasks)
    at_once = max(1, CHUNK // (phases * frequencies * AMPLITUDES))
    every = x.expand(len(support.x), *x.shape[-2:])[..., 0]
    found = [
        _predict(tasks, support.at(slice(n, n + at_once)), every[n : n + at_once])
        for n in range(0, len(every), at_once)
    ]
    return torch.cat(found)[..., None]


def _nodes(tasks: SineDistribution) -> tuple[int, int]:
    """Return how many nodes phase and frequency need: posteriors of large waves are the narrowest."""
    (low, high), most = tasks.domain, max(map(abs, tasks.amplitude))
    sharpness = most * sqrt(SHOTS / 2) / tasks.noise  # 1 / standard deviation of the phase
    phases = max(64, ceil(np.ptp(tasks.phase) * sharpness / SPACING))
    if tasks.frequency is None:
        return phases, 1
    reach = sqrt((high**3 - low**3) / (3 * (high - low)))  # root mean square of x
    return phases, max(16, ceil(np.ptp(tasks.frequency) * sharpness * reach / SPACING))


def _predict(tasks: SineDistribution, support: Points, x: Tensor) -> Tensor:
    """Return predictions ``(task, point)`` for some tasks, at x ``(task, point)``."""
    phases, frequencies = _nodes(tasks)
    low, high = tasks.phase
    phi = low + (high - low) * (torch.arange(phases, dtype=torch.float64) + 0.5) / phases
    phi = phi if tasks.sign == "plus" else -phi
    if tasks.frequency is None:
        omega, weight = torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    else:
        omega, weight = _legendre(frequencies, *map(torch.tensor, tasks.frequency))

    # Sums over the support points of y s, s^2 and y^2, where s = sin(w x + phi): (task, w, phi).
    points, y = support.x[..., 0], support.y[..., 0]
    turns = omega[:, None] * points[:, None]  # (task, w, shot)
    labels = y[:, None]
    sine, cosine = (labels * turns.sin()).sum(-1), (labels * turns.cos()).sum(-1)
    ys = sine[..., None] * phi.cos() + cosine[..., None] * phi.sin()
    sine, cosine = (2 * turns).sin().sum(-1), (2 * turns).cos().sum(-1)
    ss = points.shape[-1] - cosine[..., None] * (2 * phi).cos() + sine[..., None] * (2 * phi).sin()

    # Given phase and frequency the amplitude is normal, as far as its interval goes.
    ss = (ss / 2).clamp_min(1e-12)
    mean, deviation = ys / ss, tasks.noise / ss.sqrt()
    amplitude, step = _legendre(AMPLITUDES, *_where(mean, deviation, *tasks.amplitude))
    exponent = (ys * mean)[..., None] - (amplitude - mean[..., None]).square() * ss[..., None]
    exponent = exponent / (2 * tasks.noise**2)  # of the likelihood, but for sum y^2
    most = exponent.amax((-3, -2, -1), keepdim=True)
    density = (exponent - most).exp() * step * weight[:, None, None]

    of_amplitude = (density * amplitude).sum(-1)  # (task, w, phi)
    sine, cosine = of_amplitude @ phi.cos(), of_amplitude @ phi.sin()  # (task, w)
    turns = omega[:, None] * x[:, None]  # (task, w, point)
    wave = (sine[..., None] * turns.sin() + cosine[..., None] * turns.cos()).sum(-2)
    return wave / density.sum((-3, -2, -1))[:, None]


def _where(mean: Tensor, deviation: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return the part of an interval where a normal density lies, or of its tail if all is outside."""
    reach = (REACH * deviation).clamp_max(high - low)
    start = (mean - reach).clamp_min(low).minimum(high - reach)
    end = (mean + reach).clamp_max(high).maximum(low + reach)
    return start, end


def _legendre(count: int, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return Gauss and Legendre's nodes and weights on intervals, ``(..., node)``."""
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(count))
    half = (high - low)[..., None].double() / 2
    return low[..., None] + half * (nodes + 1), half * weights
