"""The prediction of one run on one held-out task, as a curve: what a single loss looks like."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import Algorithm
from metabench.learning.evaluation import Adapter, Step
from metabench.learning.held_out import held_out, picture_x
from metabench.learning.settings import EvaluateSettings, step_rule
from metabench.learning.tasks import Bank

Numbers = NDArray[np.float64]


class Curve(NamedTuple):
    """A task with one feature of x, and a prediction after the last update."""

    support: Numbers
    """x and y of the support points, ``(shots, 2)``."""
    x: Numbers
    """Points of pictures, ``(point,)``."""
    y: Numbers
    """The task without noise at x."""
    prediction: Numbers


def curve(
    settings: EvaluateSettings,
    algorithm: Algorithm,
    protocol: str,
    theta: NDArray[Any],
    task: int,
    rule: str,
    step_size: float,
) -> Curve:
    """Adapt one run to one task of the test bank and predict the whole curve.

    Args:
        settings: Settings of the evaluation, of tasks with one feature.
        algorithm: The algorithm.
        protocol: Name of the protocol.
        theta: What the run learned, ``(M,)``.
        task: Number of the task.
        rule: Step rule of the updates.
        step_size: The size that the rule gave this run.
    """
    given = settings.protocols[protocol]
    tasks = held_out(given, settings.tasks, "test-bank", task + 1).at(slice(task, task + 1))
    bank = Bank(given.bank, "test-bank", given.distribution(settings.tasks), task + 1)
    x, learned = picture_x(settings.tasks), torch.from_numpy(theta)
    adapter = Adapter(algorithm.adaptation, settings.shape, settings.hyperparameters)
    batches = tasks.support.to(learned.dtype).repeated(given.updates)
    predicted = adapter.under(given).predict(
        one_copy_per_task(learned[None], 1),
        batches,
        x.to(learned.dtype),
        _step(rule, torch.tensor([[step_size]], dtype=learned.dtype)),
        only=[given.updates],
    )
    support = torch.cat([tasks.support.x, tasks.support.y], dim=-1)[0]
    y, prediction = bank.drawn(x)[task, :, 0], predicted[0, 0, 0, :, 0].double()
    return Curve(*(found.numpy() for found in (support, x[:, 0], y, prediction)))


def _step(rule: str, size: torch.Tensor) -> Step:
    kind, multiple = step_rule(rule)
    return Step(multiple=multiple) if kind == "own" else Step(size)
