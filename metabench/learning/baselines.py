"""Predictors that meta-learn nothing and have no seed: the yardsticks.

    zero              predicts 0: scores E[A^2]/2 on average
    least_squares     fits y = a sin x + b cos x (or what else spans all tasks of a family): the
    floor
    gaussian_process  posterior mean under k(x, x') = v exp(-(x - x')^2 / 2 l^2) with jitter on the
    diagonal

Each maps support points ``(task, shots, feature)`` and query inputs ``(point, feature)``, or
``(task, point, feature)``, to predictions ``(task, point, feature)``, float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from metabench.learning.evaluation import held_out, picture_x, showcase_support
from metabench.learning.settings import BaselineProtocol, BaselineSettings
from metabench.learning.tasks import Bank, Points, TaskDistribution

Predictor = Callable[[Points, Tensor], Tensor]


def names(tasks: TaskDistribution) -> tuple[str, ...]:
    """Return the baselines of a family: least squares where it has a basis."""
    return ("gaussian-process", *(["least-squares"] if tasks.basis(tasks.grid) else []), "zero")


def zero(support: Points, x: Tensor) -> Tensor:
    """Predict zero everywhere."""
    return x.new_zeros(len(support.x), x.shape[-2], 1)


def least_squares(tasks: TaskDistribution, support: Points, x: Tensor) -> Tensor:
    """Fit the family's basis to the support points, by Gram-Schmidt, and predict with it.

        y = a sin x + b cos x

    LAPACK's solver gives bits that vary with where its work space lies; sums over a fixed axis do
    not.
    """
    basis, rest = tasks.basis(support.x), list[Tensor]()
    assert basis is not None  # `names`
    for function in basis:
        for q in rest:
            function = function - _dot(q, function) / _dot(q, q) * q
        rest.append(function)
    y, prediction = support.y, torch.zeros(())
    for q, function, at_x in reversed(list(zip(rest, basis, tasks.basis(x) or [], strict=True))):
        coefficient = _dot(q, y) / _dot(q, q)
        y, prediction = y - coefficient * function, prediction + coefficient * at_x
    return prediction


def _dot(u: Tensor, v: Tensor) -> Tensor:
    """Return inner products over points, ``(task, 1, 1)``."""
    return (u * v).sum(-2, keepdim=True)


def gaussian_process(
    support: Points, x: Tensor, variance: float, length_scale: float, jitter: float
) -> Tensor:
    """Return the posterior mean of a Gaussian process with an RBF kernel.

    Reference: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, equation 2.25.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        apart = torch.zeros((), dtype=a.dtype)  # squared distance, in length scales
        for n in range(a.shape[-1]):
            apart = apart + ((a[..., [n]] - b[..., [n]].mT) / length_scale).square()
        return variance * torch.exp(-0.5 * apart)

    covariance = kernel(support.x, support.x) + jitter * torch.eye(
        support.x.shape[-2], dtype=x.dtype
    )
    weights = torch.cholesky_solve(support.y, torch.linalg.cholesky(covariance))  # (task, shots, 1)
    return kernel(x.expand(len(support.x), *x.shape[-2:]), support.x) @ weights


def evaluate(settings: BaselineSettings) -> dict[str, Tensor]:
    """Evaluate the baselines on both banks, under every protocol of a group.

    Returns:
        Arrays by name, as `metabench.records.arrays` declares them.
    """
    task, x = settings.tasks.one(**settings.showcase), picture_x(settings.tasks)
    found = {"showcase/x": x, "showcase/truth": task(x)}
    for name, protocol in settings.protocols.items():
        distribution = protocol.distribution(settings.tasks)
        points = showcase_support(distribution, settings.study, task, protocol)
        found[f"showcase/{name}/support"] = torch.cat([points.x, points.y], dim=-1)
        for bank, tasks in (
            ("test", settings.banks.test),
            ("validation", settings.banks.validation),
        ):
            for baseline, losses in _losses(settings, protocol, f"{bank}-bank", tasks).items():
                found[f"{bank}/{name}/{baseline}"] = losses
    return found


def _losses(
    settings: BaselineSettings, protocol: BaselineProtocol, purpose: str, tasks: int
) -> dict[str, Tensor]:
    """Return the losses ``(region, task)`` of each baseline on a bank."""
    distribution = protocol.distribution(settings.tasks)
    held = held_out(Bank(settings.study, purpose, distribution, tasks), protocol)
    found = {}
    for name, predict in _predictors(distribution, settings, protocol).items():
        square = (predict(held.support, held.query.x) - held.query.y).square()[..., 0]
        found[name] = torch.stack([square[:, index].mean(-1) for index in held.regions.values()])
    return found


def _predictors(
    tasks: TaskDistribution, settings: BaselineSettings, protocol: BaselineProtocol
) -> dict[str, Predictor]:
    """Return the baselines of a distribution by name."""
    kernel = settings.gaussian_process
    every: dict[str, Predictor] = {
        "gaussian-process": partial(
            gaussian_process,
            variance=kernel.variance,
            length_scale=protocol.gaussian_process_length_scale,
            jitter=kernel.jitter,
        ),
        "least-squares": partial(least_squares, tasks),
        "zero": zero,
    }
    return {name: every[name] for name in names(tasks)}
