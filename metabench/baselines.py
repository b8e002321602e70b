"""Predictors that meta-learn nothing and have no seed: what the numbers of the others are held against.

    zero              predicts 0: scores E[A^2]/2 on average
    least_squares     fits y = a sin x + b cos x, which every wave obeys: the floor
    gaussian_process  posterior mean under k(x, x') = v exp(-(x - x')^2 / 2 l^2) with jitter on the diagonal

Each maps support points ``(task, shots, feature)`` and query inputs ``(point, feature)`` to predictions
``(task, point, feature)``, float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from metabench.adaptation import Points
from metabench.evaluation import SHOWCASE_X, held_out, showcase_support, showcase_wave
from metabench.tasks import Bank, SineDistribution

NAMES = ("gaussian-process", "least-squares", "zero")


def zero(support: Points, x: Tensor) -> Tensor:
    """Predict zero everywhere."""
    return x.new_zeros(len(support.x), *x.shape)


def least_squares(support: Points, x: Tensor) -> Tensor:
    """Fit y = a sin x + b cos x to the support points, by Gram-Schmidt, and predict with it.

    LAPACK's solver gives bits that vary with where its work space lies; sums over a fixed axis do not.
    """
    sine, cosine, y = torch.sin(support.x), torch.cos(support.x), support.y
    shared = _dot(sine, cosine) / _dot(sine, sine)
    rest = cosine - shared * sine  # what of the cosine is orthogonal to the sine
    b = _dot(rest, y) / _dot(rest, rest)
    a = _dot(sine, y - b * cosine) / _dot(sine, sine)
    return a * torch.sin(x) + b * torch.cos(x)


def _dot(u: Tensor, v: Tensor) -> Tensor:
    """Return inner products over points, ``(task, 1, 1)``."""
    return (u * v).sum(-2, keepdim=True)


def gaussian_process(support: Points, x: Tensor, variance: float, length_scale: float, jitter: float) -> Tensor:
    """Return the posterior mean of a Gaussian process with an RBF kernel.

    Reference: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, equation 2.25.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return variance * torch.exp(-0.5 * ((a - b.transpose(-2, -1)) / length_scale).square())

    covariance = kernel(support.x, support.x) + jitter * torch.eye(support.x.shape[-2], dtype=x.dtype)
    weights = torch.cholesky_solve(support.y, torch.linalg.cholesky(covariance))  # (task, shots, 1)
    return kernel(x.expand(len(support.x), *x.shape), support.x) @ weights


def evaluate(settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Evaluate the baselines on both banks, as `metabench.plans.baseline_settings` asks.

    Returns:
        ``test/PROTOCOL/NAME`` and ``validation/PROTOCOL/NAME`` losses ``(region, task)``; and of the showcase wave
        ``showcase/x`` and ``showcase/truth`` ``(point, feature)``, and ``showcase/PROTOCOL/support`` points
        ``(shots, 2)``, x and y.
    """
    distribution = SineDistribution(**settings["tasks"])
    banks = {
        name: Bank(settings["study"], f"{name}-bank", distribution, settings[f"{name}_tasks"])
        for name in ("test", "validation")
    }
    wave = showcase_wave(settings)
    found = {"showcase/x": SHOWCASE_X, "showcase/truth": wave(SHOWCASE_X)}
    for protocol, given in settings["protocols"].items():
        points = showcase_support(settings["study"], wave, given["shots"], tuple(given["support"]))
        found[f"showcase/{protocol}/support"] = torch.cat([points.x, points.y], dim=-1)
        for name, bank in banks.items():
            tasks = held_out(bank, given["shots"], tuple(given["support"]))
            for baseline, predict in _predictors(settings["gaussian_process"], given).items():
                square = (predict(tasks.support, tasks.query.x) - tasks.query.y).square()[..., 0]
                losses = [square[:, index].mean(-1) for index in tasks.regions.values()]
                found[f"{name}/{protocol}/{baseline}"] = torch.stack(losses)
    return found


def _predictors(
    kernel: Mapping[str, float], protocol: Mapping[str, Any]
) -> dict[str, Callable[[Points, Tensor], Tensor]]:
    scale = protocol["gaussian_process_length_scale"]
    return {
        "gaussian-process": lambda support, x: gaussian_process(support, x, length_scale=scale, **kernel),
        "least-squares": least_squares,
        "zero": zero,
    }
