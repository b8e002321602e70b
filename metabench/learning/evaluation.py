"""Evaluation: the loss of every update of every run on every task of a bank.

    loss[region, update, run, task] = mean over the region of (prediction at phi_update - y)^2

The region `all` is the query grid. If the support interval is not the whole domain, the region
`seen` has the grid points inside it, and `unseen` those outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import nan
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import Adaptation, Algorithm, Question
from metabench.learning.network import Network
from metabench.learning.predictive import Predictive, measures
from metabench.learning.randomness import uniforms
from metabench.learning.settings import (
    Banks,
    EvaluatedProtocol,
    EvaluateSettings,
    Protocol,
    step_rule,
)
from metabench.learning.tasks import Bank, Points, Task, TaskDistribution, lattice, scale

CHUNK = 16
"""Tasks to which each run of a stack adapts at a time: few, so that the stack stays in cache."""

MARGIN = 0.05
"""Margin of pictures on either side of the domain, as a fraction of its length."""

PICTURE_POINTS = {1: 111, 2: 41}
"""Points of a picture along each feature of x, by the number of features."""

PICTURE = 2000
"""Approximate total number of points of a picture with more features."""


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
        self, theta: Tensor, batches: Points, x: Tensor, step: Step, every: bool = True
    ) -> Tensor:
        """Adapt theta ``(..., M)`` to batches and predict at x; see `Question`."""
        question = Question(batches, x, step.size, step.multiple, self.optimizer, every)
        return self.adaptation.predict(self.network, theta, question, self.h)

    def distribution(self, theta: Tensor, batches: Points, x: Tensor, step: Step) -> Predictive:
        """Adapt theta to batches and return the distribution of labels at x."""
        assert self.adaptation.distribution is not None
        question = Question(batches, x, step.size, step.multiple, self.optimizer, every=False)
        return self.adaptation.distribution(self.network, theta, question, self.h)


Measure = Callable[[Tensor, Points, Step, Points], Tensor]
"""Function from copies of theta, batches, step and query points to losses ``(..., task)``."""


class HeldOut(NamedTuple):
    """The data of a bank's tasks under one protocol."""

    support: Points
    """``(task, shots, feature)``."""
    query: Points
    """x is the grid ``(point, feature)`` or fresh points ``(task, point, feature)``; y is ``(task,
    point, 1)``, without noise.
    """
    observed: Tensor
    """Labels of the query points with noise, ``(task, point, 1)``."""
    regions: dict[str, Tensor]
    """Indices of the query points of each region."""


def held_out(protocol: Protocol, tasks: TaskDistribution, purpose: str, count: int) -> HeldOut:
    """Return held-out tasks under a protocol, float64.

    Args:
        protocol: The protocol.
        tasks: Distribution of the training tasks, which the protocol may change.
        purpose: Name of the bank, ``validation-bank`` or ``test-bank``.
        count: Number of tasks.
    """
    distribution = protocol.distribution(tasks)
    bank = Bank(protocol.bank, purpose, distribution, count)
    support, query = bank.support(protocol.shots, protocol.support), bank.query(protocol.queries)
    return HeldOut(support, query, bank.observed(query.y), regions(distribution, protocol))


def banks_under(protocol: Protocol, tasks: TaskDistribution, banks: Banks) -> dict[str, HeldOut]:
    """Return the held-out tasks under a protocol, by the name of their bank."""
    return {
        name: held_out(protocol, tasks, f"{name}-bank", count)
        for name, count in (("test", banks.test), ("validation", banks.validation))
    }


def regions(distribution: TaskDistribution, protocol: Protocol) -> dict[str, Tensor]:
    """Return the indices of the query points of each region.

    Fresh query points differ between tasks, so they have only the region `all`.
    """
    if protocol.queries:
        return {"all": torch.arange(protocol.queries)}
    low, high = protocol.support
    grid = distribution.grid
    seen = ((grid >= low) & (grid <= high)).all(-1)
    everywhere = {"all": torch.arange(len(grid))}
    if bool(seen.all()):
        return everywhere
    return {**everywhere, "seen": seen.nonzero()[:, 0], "unseen": (~seen).nonzero()[:, 0]}


def measures_distributions(protocol: Protocol, tasks: TaskDistribution) -> bool:
    """Return whether predictive distributions are measured under a protocol.

    They are distributions of labels, so labels must have noise, in training and under the protocol.
    """
    return bool(tasks.noise and protocol.distribution(tasks).noise)


def losses(predicted: Tensor, y: Tensor, regions: dict[str, Tensor]) -> Tensor:
    """Return the mean squared error of predictions on each region of the query points.

    Args:
        predicted: ``(..., task, point, 1)``.
        y: Labels of the query points, ``(task, point, 1)``.
        regions: Indices of the query points of each region.

    Returns:
        ``(region, ..., task)``.
    """
    square = (predicted - y).square_()[..., 0]
    return torch.stack([square[..., index].mean(-1) for index in regions.values()])


def adaptation_losses(
    adapter: Adapter, theta: Tensor, tasks: HeldOut, updates: int, step: Step = OWN
) -> Tensor:
    """Adapt every run to every task and measure each update on the query points.

    Args:
        adapter: The adaptation.
        theta: Learned values, ``(run, M)``. Not changed.
        tasks: Held-out tasks, of theta's type.
        updates: U, the number of full-batch gradient steps on the support points.
        step: Step size.

    Returns:
        Losses ``(region, update, run, task)``. Update 0 is before the first step.
    """

    def measure(copies: Tensor, batches: Points, step: Step, query: Points) -> Tensor:
        predicted = adapter.predict(copies, batches, query.x, step)
        return losses(predicted, query.y, tasks.regions)

    return _in_chunks(measure, theta, tasks, updates, step)


def final_losses(
    adapter: Adapter, theta: Tensor, tasks: HeldOut, updates: int, step: Step = OWN
) -> Tensor:
    """Return the loss on all query points after the last update, ``(run, task)``.

    Arguments are those of `adaptation_losses`.
    """
    everywhere = {"all": tasks.regions["all"]}

    def measure(copies: Tensor, batches: Points, step: Step, query: Points) -> Tensor:
        predicted = adapter.predict(copies, batches, query.x, step, every=False)
        return losses(predicted, query.y, everywhere)[0]

    return _in_chunks(measure, theta, tasks, updates, step)


def predictive_measures(
    adapter: Adapter, theta: Tensor, tasks: HeldOut, updates: int, step: Step = OWN
) -> Tensor:
    """Measure the distributions of labels after the last update.

    Arguments are those of `adaptation_losses`.

    Returns:
        ``(region, measure, run, task)``; the measures are `metabench.learning.predictive.MEASURES`.
    """

    def measure(copies: Tensor, batches: Points, step: Step, query: Points) -> Tensor:
        predicted = adapter.distribution(copies, batches, query.x, step)
        return measures(predicted, query.y, tasks.regions)

    observed = tasks._replace(query=Points(tasks.query.x, tasks.observed))
    return _in_chunks(measure, theta, observed, updates, step)


def _in_chunks(measure: Measure, theta: Tensor, tasks: HeldOut, updates: int, step: Step) -> Tensor:
    """Return losses ``(..., task)``, computed for `CHUNK` tasks at a time."""
    chunks = []
    for start in range(0, len(tasks.query.y), CHUNK):
        chunk = slice(start, start + CHUNK)
        support, y = tasks.support.at(chunk), tasks.query.y[chunk]
        on_grid = tasks.query.x.dim() == 2
        x = tasks.query.x if on_grid else tasks.query.x[chunk]
        copies = one_copy_per_task(theta, len(y))
        of_copies = step
        if step.size is not None:
            sizes = step.size.to(theta.dtype)[:, None].expand(copies.shape[:-1])
            of_copies = step._replace(size=sizes)
        chunks.append(measure(copies, support.repeated(updates), of_copies, Points(x, y)))
    return torch.cat(chunks, dim=-1)


def cast(tasks: HeldOut, dtype: torch.dtype) -> HeldOut:
    """Return held-out tasks converted to a floating-point type."""
    support, query = tasks.support.to(dtype), tasks.query.to(dtype)
    return HeldOut(support, query, tasks.observed.to(dtype), tasks.regions)


def picture_x(distribution: TaskDistribution) -> Tensor:
    """Return the points of pictures, ``(point, feature)``, float64: the domain and a margin."""
    (low, high), features = distribution.domain, distribution.features
    beyond = MARGIN * (high - low)
    points = PICTURE_POINTS.get(features, max(2, int(PICTURE ** (1 / features))))
    return lattice((low - beyond, high + beyond), points, features)


def showcase_support(distribution: TaskDistribution, task: Task, protocol: Protocol) -> Points:
    """Return the support points of the task in pictures, the same for every cell and seed.

    Args:
        distribution: Distribution of the tasks under the protocol, which has the noise of labels.
        task: The task.
        protocol: Protocol with the number and the interval of the points.
    """
    features = distribution.features
    unit = torch.from_numpy(uniforms("showcase", "showcase", 0, protocol.shots * features))
    x = scale(unit, protocol.support).unflatten(-1, (protocol.shots, features))
    return Points(
        x,
        distribution.observed(task(x), lambda: uniforms("showcase", "showcase", 1, protocol.shots)),
    )


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
    test, validation = (cast(banks[name], theta.dtype) for name in ("test", "validation"))

    def measured(tasks: HeldOut, step: Step) -> Tensor:
        return adaptation_losses(adapter, theta, tasks, protocol.updates, step)

    rules = adapter.adaptation.rules(protocol.steps)
    tuning = None
    if "tuned" in rules:
        candidates = torch.tensor(settings.tuning_step_sizes, dtype=torch.float64)
        tuning = _tuning(candidates, lambda step: measured(validation, step), len(theta))
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
    at_each = [losses(Step(size.expand(runs)))[0, -1] for size in candidates]
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
    """Return predictions before and after adaptation to the showcase task, ``(2, run, point)``."""
    predicted = adapter.predict(theta, *_pictured(settings, theta.dtype, protocol, step))
    return predicted[[0, -1], ..., 0]


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
    points = showcase_support(protocol.distribution(settings.tasks), task, protocol).to(dtype)
    if step.size is not None:
        step = step._replace(size=step.size.to(dtype))
    return points.repeated(protocol.updates), picture_x(settings.tasks).to(dtype), step
