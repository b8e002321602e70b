"""Baselines: predictors without seeds.

    zero                       predicts 0: a loss of E[A^2]/2 on average
    bayes                      the posterior: no predictor has a lower expected loss than its mean
    least-squares              fits y = a sin x + b cos x, or the basis of another family; only it
                               knows that basis: the lower bound without noise
    linear                     a linear model on functions learned from training tasks
    training-mean              the mean of the training tasks, where tasks are recorded data
    gaussian-process           kernel and length scale are those of the study
    gaussian-process-fitted    the same kernel, fitted to training tasks
    gaussian-process-noise     the fitted kernel, told of the noise that a protocol sets
    gaussian-process-periodic  a periodic kernel with the true period, fitted to training tasks

Baselines that learn use the training tasks of the study, even if a protocol changes the tasks. A
baseline maps support points ``(task, shots, feature)`` and query points ``(point, feature)`` or
``(task, point, feature)`` to distributions of labels ``(task, point, 1)``, float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from metabench.learning.baselines import bayes, linear_model, processes
from metabench.learning.baselines.fixed import least_squares, zero
from metabench.learning.baselines.predictor import Posterior, certain
from metabench.learning.held_out import (
    HeldOut,
    banks_under,
    losses,
    measures_distributions,
    picture_support,
    picture_x,
)
from metabench.learning.predictive import measures
from metabench.learning.settings import BaselineProtocol, BaselineSettings, Protocol
from metabench.learning.tasks import AnyDistribution, TaskBlock, TaskDistribution, TaskStream

SEED = 0
"""The seed from whose training tasks baselines learn."""


def names(trained: TaskDistribution, protocol: Protocol | None = None) -> tuple[str, ...]:
    """Return the baselines of a study under a protocol.

    Args:
        trained: Distribution of the training tasks.
        protocol: The protocol; by default, one that does not change the distribution.
    """
    met = protocol.distribution(trained) if protocol else trained
    return (
        *(["bayes"] if bayes.possible(met) and _is_known_to_bayes(protocol) else []),
        "gaussian-process",
        "gaussian-process-fitted",
        *(["gaussian-process-noise"] if protocol and protocol.noise is not None else []),
        *(["gaussian-process-periodic"] if trained.period else []),
        *(["least-squares"] if met.basis(met.grid) else []),
        "linear",
        *(["training-mean"] if trained.recorded else []),
        "zero",
    )


def _is_known_to_bayes(protocol: Protocol | None) -> bool:
    """Return whether labels have no error but noise, and are not too many for the nodes."""
    return protocol is None or (not protocol.outliers and protocol.shots <= bayes.SHOTS)


WITH_NOISE = (
    "bayes",
    "gaussian-process-fitted",
    "gaussian-process-noise",
    "gaussian-process-periodic",
    "linear",
)
"""The baselines whose distributions of labels include the noise."""


def distributions(trained: TaskDistribution, protocol: Protocol) -> tuple[str, ...]:
    """Return the baselines of a study whose distributions of labels are measured.

    That of the kernel which the study gives is not: it does not know the noise of labels.
    """
    if not measures_distributions(protocol, trained):
        return ()
    return tuple(name for name in names(trained, protocol) if name in WITH_NOISE)


def training_tasks(tasks: TaskDistribution) -> TaskBlock:
    """Return the first block of training tasks of `SEED`, one for each meta-iteration."""
    return TaskStream(tasks, (SEED,), meta_batch_size=1).block(0)


def evaluate(settings: BaselineSettings) -> dict[str, Tensor]:
    """Evaluate the baselines on both banks, under every protocol of a group.

    Returns:
        Arrays by name, as `metabench.records.arrays` declares them.
    """
    task, x = settings.tasks.one(**settings.showcase), picture_x(settings.tasks)
    arrays = {"showcase/x": x, "showcase/truth": task(x)}
    for name, protocol in settings.protocols.items():
        distribution = protocol.distribution(settings.tasks)
        points = picture_support(distribution, task, protocol)
        arrays[f"showcase/{name}/support"] = torch.cat([points.x, points.y], dim=-1)
        banks = banks_under(protocol, settings.tasks, settings.banks)
        factories = _posteriors(settings, protocol, banks["validation"])
        judged = distributions(settings.tasks, protocol)
        for baseline in names(settings.tasks, protocol):
            posterior = factories[baseline]()
            for bank, tasks in banks.items():
                labels = posterior(tasks.support, tasks.query.x)
                arrays[f"{bank}/{name}/{baseline}"] = losses(labels.mean, tasks)
                if bank == "test" and baseline in judged:
                    measured = tasks.by_region(measures(labels, tasks.observed))
                    arrays[f"predictive/{name}/{baseline}"] = measured
    return arrays


def _posteriors(
    settings: BaselineSettings, protocol: BaselineProtocol, validation: HeldOut
) -> dict[str, Callable[[], Posterior]]:
    """Return a factory of each baseline, by name."""
    given, tasks = settings.gaussian_process, settings.tasks
    rbf = processes.Kernel(given.variance, protocol.gaussian_process_length_scale, given.jitter)
    met: Any = protocol.distribution(tasks)
    return {
        "bayes": lambda: partial(bayes.posterior, met),
        "gaussian-process": lambda: partial(processes.posterior, rbf),
        "gaussian-process-fitted": lambda: partial(processes.posterior, _fitted(tasks, None)),
        "gaussian-process-noise": lambda: partial(
            processes.posterior, _fitted(tasks, None).with_noise(met.noise)
        ),
        "gaussian-process-periodic": lambda: partial(
            processes.posterior, _fitted(tasks, tasks.period)
        ),
        "least-squares": lambda: certain(partial(least_squares, met)),
        "linear": lambda: linear_model.chosen(_components(tasks), validation),
        "training-mean": lambda: certain(partial(linear_model.training_mean, _components(tasks))),
        "zero": lambda: certain(zero),
    }


@cache
def _fitted(tasks: AnyDistribution, period: float | None) -> processes.Kernel:
    """Return the kernel that fits the training tasks."""
    return processes.fitted(training_tasks(tasks), period)


@cache
def _components(tasks: AnyDistribution) -> linear_model.Components:
    """Return the principal components of the training tasks."""
    return linear_model.learned(training_tasks(tasks))
