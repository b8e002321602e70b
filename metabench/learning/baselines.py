"""Predictors that meta-learn nothing and have no seed: what the numbers of the others are held
against.

    zero              predicts 0: scores E[A^2]/2 on average
    least_squares     fits y = a sin x + b cos x (or what else spans all tasks of a family): the
    floor
    gaussian_process  posterior mean under k(x, x') = v exp(-(x - x')^2 / 2 l^2) with jitter on the
    diagonal

Each maps support points ``(task, shots, feature)`` and query inputs ``(point, feature)``, or
``(task, point, feature)``, to predictions ``(task, point, feature)``, float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from metabench.learning.evaluation import SHOWCASE_X, held_out, showcase_support, showcase_task
from metabench.learning.tasks import Bank, Points, TaskDistribution, distribution


def names(tasks: TaskDistribution) -> tuple[str, ...]:
    """Return the baselines of a family: least squares where it has a basis."""
    return ("gaussian-process", *(["least-squares"] if tasks.basis(tasks.grid) else []), "zero")


def zero(support: Points, x: Tensor) -> Tensor:
    """Predict zero everywhere."""
    return x.new_zeros(len(support.x), *x.shape[-2:])


def least_squares(tasks: TaskDistribution, support: Points, x: Tensor) -> Tensor:
    """Fit a combination of the family's basis to the support points, by Gram-Schmidt, and predict
    with it.

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
        return variance * torch.exp(-0.5 * ((a - b.transpose(-2, -1)) / length_scale).square())

    covariance = kernel(support.x, support.x) + jitter * torch.eye(
        support.x.shape[-2], dtype=x.dtype
    )
    weights = torch.cholesky_solve(support.y, torch.linalg.cholesky(covariance))  # (task, shots, 1)
    return kernel(x.expand(len(support.x), *x.shape[-2:]), support.x) @ weights


def evaluate(settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Evaluate the baselines on both banks, as `metabench.study.plans.baseline_settings` asks.

    Returns:
        ``test/PROTOCOL/NAME`` and ``validation/PROTOCOL/NAME`` losses ``(region, task)``; and of
        the showcase wave ``showcase/x`` and ``showcase/truth`` ``(point, feature)``, and
        ``showcase/PROTOCOL/support`` points ``(shots, 2)``, x and y.
    """
    tasks = distribution(settings["tasks"])
    banks = {
        name: Bank(settings["study"], f"{name}-bank", tasks, settings[f"{name}_tasks"])
        for name in ("test", "validation")
    }
    task = showcase_task(tasks, settings)
    found = {"showcase/x": SHOWCASE_X, "showcase/truth": task(SHOWCASE_X)}
    for protocol, given in settings["protocols"].items():
        points = showcase_support(
            tasks, settings["study"], task, given["shots"], tuple(given["support"])
        )
        found[f"showcase/{protocol}/support"] = torch.cat([points.x, points.y], dim=-1)
        for name, bank in banks.items():
            held = held_out(bank, given)
            for baseline, predict in _predictors(
                tasks, settings["gaussian_process"], given
            ).items():
                square = (predict(held.support, held.query.x) - held.query.y).square()[..., 0]
                losses = [square[:, index].mean(-1) for index in held.regions.values()]
                found[f"{name}/{protocol}/{baseline}"] = torch.stack(losses)
    return found


def _predictors(
    tasks: TaskDistribution, kernel: Mapping[str, float], protocol: Mapping[str, Any]
) -> dict[str, Callable[[Points, Tensor], Tensor]]:
    scale = protocol["gaussian_process_length_scale"]
    every: dict[str, Callable[[Points, Tensor], Tensor]] = {
        "gaussian-process": lambda support, x: gaussian_process(
            support, x, length_scale=scale, **kernel
        ),
        "least-squares": partial(least_squares, tasks),
        "zero": zero,
    }
    return {name: every[name] for name in names(tasks)}
