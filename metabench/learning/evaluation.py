"""Evaluation: the loss of every run on every task of a bank, after each measured update.

    loss[region, update, run, task] = mean over the region of (prediction at phi_update - y)^2

`metabench.learning.held_out` has the regions of the query points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import Adaptation, Algorithm, Question
from metabench.learning.held_out import (
    HeldOut,
    banks_under,
    losses,
    measures_distributions,
    picture_support,
    picture_x,
)
from metabench.learning.network import Network
from metabench.learning.predictive import Predictive, measures
from metabench.learning.settings import (
    EvaluatedProtocol,
    EvaluateSettings,
    Protocol,
    doubling,
    step_rule,
)
from metabench.learning.tasks import Points

CHUNK = 16
"""Tasks to which each run of a stack adapts at a time: few, so that the stack stays in cache."""


class Step(NamedTuple):
    """The step size of the updates."""

    size: Tensor | None = None
    """Step size of each run, ``(run,)``; None selects the algorithm's own."""
    multiple: float = 1.0
    """Factor of the algorithm's own step size."""


OWN = Step()


@dataclass(frozen=True)
class Adapter:
    """The adaptation of a cell: that of its algorithm with its network and hyperparameters.

    Args:
        adaptation: The algorithm's adaptation.
        network: The network.
        h: Hyperparameters.
        optimizer: Optimizer of the updates; None selects the algorithm's own.
    """

    adaptation: Adaptation
    network: Network
    h: Any
    optimizer: str | None = None

    def under(self, protocol: Protocol) -> Adapter:
        """Return the adapter under a protocol."""
        return replace(self, optimizer=protocol.optimizer)

    def predict(
        self,
        theta: Tensor,
        batches: Points,
        x: Tensor,
        step: Step,
        only: Sequence[int] | None = None,
    ) -> Tensor:
        """Adapt theta ``(..., M)`` to batches and predict at x; see `Question`."""
        question = Question(batches, x, step.size, step.multiple, self.optimizer, only)
        return self.adaptation.predict(self.network, theta, question, self.h)

    def distribution(self, theta: Tensor, batches: Points, x: Tensor, step: Step) -> Predictive:
        """Adapt theta to batches and return the distribution of labels at x."""
        assert self.adaptation.distribution is not None
        last = [len(batches.x)]
        question = Question(batches, x, step.size, step.multiple, self.optimizer, last)
        return self.adaptation.distribution(self.network, theta, question, self.h)


Measure = Callable[[Tensor, HeldOut, Points, Step], Tensor]
"""Function from copies of theta, their tasks, batches and step to losses ``(..., task)``."""


def adaptation_losses(
    adapter: Adapter,
    theta: Tensor,
    tasks: HeldOut,
    updates: int,
    step: Step = OWN,
    only: Sequence[int] | None = None,
) -> Tensor:
    """Adapt every run to every task and measure its losses on the query points.

    Args:
        adapter: The adaptation.
        theta: Learned values, ``(run, M)``. Not changed.
        tasks: Held-out tasks, of theta's type.
        updates: U, the number of full-batch gradient steps on the support points.
        step: Step size.
        only: The numbers of steps after which the losses are measured, ascending; by default 0 to
            U. Update 0 is before the first step.

    Returns:
        Losses ``(region, update, run, task)``.
    """

    def measure(copies: Tensor, chunk: HeldOut, batches: Points, step: Step) -> Tensor:
        return losses(adapter.predict(copies, batches, chunk.query.x, step, only), chunk)

    return _in_chunks(measure, theta, tasks, updates, step)


def final_losses(
    adapter: Adapter, theta: Tensor, tasks: HeldOut, updates: int, step: Step = OWN
) -> Tensor:
    """Return the loss on all query points after the last update, ``(run, task)``.

    Arguments are those of `adaptation_losses`.
    """
    everywhere = tasks._replace(regions={"all": tasks.regions["all"]})
    return adaptation_losses(adapter, theta, everywhere, updates, step, only=[updates])[0, 0]


def predictive_measures(
    adapter: Adapter, theta: Tensor, tasks: HeldOut, updates: int, step: Step = OWN
) -> Tensor:
    """Measure the distributions of labels after the last update.

    Arguments are those of `adaptation_losses`.

    Returns:
        ``(region, measure, run, task)``; the measures are `metabench.learning.predictive.MEASURES`.
    """

    def measure(copies: Tensor, chunk: HeldOut, batches: Points, step: Step) -> Tensor:
        predicted = adapter.distribution(copies, batches, chunk.query.x, step)
        return chunk.by_region(measures(predicted, chunk.observed))

    return _in_chunks(measure, theta, tasks, updates, step)


def _in_chunks(measure: Measure, theta: Tensor, tasks: HeldOut, updates: int, step: Step) -> Tensor:
    """Return losses ``(..., task)``, computed for `CHUNK` tasks at a time."""
    chunks = []
    for start in range(0, len(tasks.query.y), CHUNK):
        chunk = tasks.at(slice(start, start + CHUNK))
        copies = one_copy_per_task(theta, len(chunk.query.y))
        of_copies = step
        if step.size is not None:
            sizes = step.size.to(theta.dtype)[:, None].expand(copies.shape[:-1])
            of_copies = step._replace(size=sizes)
        chunks.append(measure(copies, chunk, chunk.support.repeated(updates), of_copies))
    return torch.cat(chunks, dim=-1)


def evaluate(
    settings: EvaluateSettings,
    theta: Tensor,
    algorithm: Algorithm,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """Evaluate trained initializations under every protocol of a group.

    Args:
        settings: Settings of the evaluation job.
        theta: Learned values, ``(run, M)``.
        algorithm: The algorithm that learned them.
        advance: Called after each protocol.

    Returns:
        Arrays by name, as `metabench.records.arrays` declares them.
    """
    adapter = Adapter(algorithm.adaptation, settings.shape, settings.hyperparameters)
    arrays: dict[str, Tensor] = {}
    for name, protocol in settings.protocols.items():
        for kind, step, tensor in _under_protocol(settings, adapter, theta, protocol):
            arrays["/".join(filter(None, (kind, name, step)))] = tensor
        advance()
    return arrays


Measured = tuple[str, str, Tensor]
"""Name of an array, its step rule, and its values."""


def _under_protocol(
    settings: EvaluateSettings, adapter: Adapter, theta: Tensor, protocol: EvaluatedProtocol
) -> Iterator[Measured]:
    """Yield the arrays of `evaluate` under one protocol."""
    adapter = adapter.under(protocol)
    banks = banks_under(protocol, settings.tasks, settings.banks)
    test, validation = (banks[name].to(theta.dtype) for name in ("test", "validation"))

    def measured(tasks: HeldOut, step: Step) -> Tensor:
        updates, only = protocol.updates, protocol.measured
        return adaptation_losses(adapter, theta, tasks, updates, step, only)

    def tuned(step: Step) -> Tensor:
        return final_losses(adapter, theta, validation, protocol.updates, step)

    rules = adapter.adaptation.rules(protocol.steps)
    tuning = None
    if "tuned" in rules:
        candidates = torch.tensor(settings.tuning_step_sizes, dtype=torch.float64)
        tuning = _tuning(candidates, tuned, len(theta))
        yield "tuning", "", tuning
    known: list[tuple[Tensor, Tensor, Tensor]] = []  # step sizes, validation and test losses
    for rule in rules:
        step, sizes = _step(rule, settings, adapter, len(theta), tuning)
        # Plain descent with equal step sizes gives equal losses. They are computed only once.
        equal = [
            entry for entry in known if adapter.adaptation.plain and torch.equal(entry[0], sizes)
        ]
        if not equal:
            known.append((sizes, measured(validation, step)[0], measured(test, step)))
        _, on_validation, on_test = (equal or known[-1:])[0]
        yield "step_size", rule, sizes
        yield "validation", rule, on_validation
        yield "test", rule, on_test
    first, _ = _step(rules[0], settings, adapter, len(theta), tuning)
    yield "showcase", "", _showcase(settings, adapter, theta, protocol, first)
    if adapter.adaptation.distribution and measures_distributions(protocol, settings.tasks):
        yield "predictive", "", predictive_measures(adapter, theta, test, protocol.updates, first)
        yield "deviation", "", _deviation(settings, adapter, theta, protocol, first)


def _tuning(candidates: Tensor, losses: Callable[[Step], Tensor], runs: int) -> Tensor:
    """Return each run's mean validation loss at each candidate step size, ``(step, run)``."""
    at_each = [losses(Step(size.expand(runs))) for size in candidates]
    return torch.stack([by_task.double().mean(-1) for by_task in at_each])


def _step(
    rule: str, settings: EvaluateSettings, adapter: Adapter, runs: int, tuning: Tensor | None
) -> tuple[Step, Tensor]:
    """Return the step of a rule, and its size for each run ``(run,)``.

    The size is nan if the algorithm takes no gradient steps. If it learns step sizes, the size is
    their initial value.
    """
    kind, number = step_rule(rule)
    if kind == "own":
        own = getattr(adapter.h, "inner_step_size", nan)
        return Step(multiple=number), torch.full((runs,), number * own, dtype=torch.float64)
    if kind == "tuned":
        assert tuning is not None
        candidates = torch.tensor(settings.tuning_step_sizes, dtype=torch.float64)
        # argmin would select nan, the loss of a diverged adaptation. Ties go to the first size.
        sizes = candidates[tuning.nan_to_num(nan=torch.inf).argmin(0)]
    else:
        size = settings.common_step_size if kind == "common" else number
        sizes = torch.full((runs,), size, dtype=torch.float64)
    return Step(sizes), sizes


def _showcase(
    settings: EvaluateSettings, adapter: Adapter, theta: Tensor, protocol: Protocol, step: Step
) -> Tensor:
    """Return predictions for the showcase task, ``(picture update, run, point)``."""
    asked = _pictured(settings, theta.dtype, protocol, step)
    return adapter.predict(theta, *asked, doubling(protocol.updates))[..., 0]


def _deviation(
    settings: EvaluateSettings, adapter: Adapter, theta: Tensor, protocol: Protocol, step: Step
) -> Tensor:
    """Return the predicted standard deviations on the showcase task, ``(run, point)``."""
    predicted = adapter.distribution(theta, *_pictured(settings, theta.dtype, protocol, step))
    return predicted.variance.sqrt()[..., 0]


def _pictured(
    settings: EvaluateSettings, dtype: torch.dtype, protocol: Protocol, step: Step
) -> tuple[Points, Tensor, Step]:
    """Return batches, query points and step of the showcase task."""
    task = settings.tasks.one(**settings.showcase)
    points = picture_support(protocol.distribution(settings.tasks), task, protocol).to(dtype)
    if step.size is not None:
        step = step._replace(size=step.size.to(dtype))
    return points.repeated(protocol.updates), picture_x(settings.tasks).to(dtype), step
