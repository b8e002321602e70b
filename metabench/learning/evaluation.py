"""How well an initialization adapts: every update of every run on every task of a bank.

    loss[region, update, run, task] = mean over the region of (prediction at phi_update - y)^2

The region `all` is the query grid. Where the support interval is not the whole domain, `seen` has
the grid points inside it and `unseen` those outside.
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
from metabench.learning.randomness import uniforms
from metabench.learning.settings import EvaluatedProtocol, EvaluateSettings, Protocol, step_rule
from metabench.learning.tasks import Bank, Points, Task, TaskDistribution, lattice, scale

CHUNK = 16
"""Tasks that each run of a stack adapts to at a time: few enough for the stack to stay in cache."""

MARGIN = 0.05
"""How far pictures reach beyond the domain on either side, as a share of its length."""

PICTURE_POINTS = {1: 111, 2: 41}
"""Points of a picture in each feature of x, by the number of features."""

PICTURE = 2000
"""About how many points a picture of more features has in all."""


class Step(NamedTuple):
    """The step size of the updates."""

    size: Tensor | None = None
    """Of each run, ``(run,)``; None stands for the algorithm's own."""
    multiple: float = 1.0
    """Factor of the algorithm's own."""


OWN = Step()


@dataclass(frozen=True)
class Adapter:
    """An algorithm's way to adapt, with the network and the hyperparameters of a cell.

    Args:
        adaptation: The algorithm's.
        network: The network.
        h: Hyperparameters.
        optimizer: Rule of the updates; None stands for the algorithm's own.
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
        """Adapt theta ``(..., M)`` to batches and predict at x, as `Question` says."""
        question = Question(batches, x, step.size, step.multiple, self.optimizer, every)
        return self.adaptation.predict(self.network, theta, question, self.h)


Losses = Callable[[Tensor, Points, Step, Points], Tensor]
"""From copies of theta, batches, steps and query points to losses ``(..., task)``."""


class HeldOut(NamedTuple):
    """The tasks of a bank, ready to be adapted to under one protocol."""

    support: Points
    """``(task, shots, feature)``."""
    query: Points
    """x of the grid ``(point, feature)`` or of fresh points ``(task, point, feature)``; y ``(task,
    point, 1)``.
    """
    regions: dict[str, Tensor]
    """Indices of each region's query points."""


def held_out(bank: Bank, protocol: Protocol) -> HeldOut:
    """Return a bank's tasks under a protocol, float64."""
    support = bank.support(protocol.shots, protocol.support)
    query = bank.query(protocol.queries)
    return HeldOut(support, query, regions(bank.distribution, protocol))


def regions(distribution: TaskDistribution, protocol: Protocol) -> dict[str, Tensor]:
    """Return the indices of each region's query points.

    Fresh query points are others for each task, so they have the region `all` alone.
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


def adaptation_losses(
    adapter: Adapter, theta: Tensor, tasks: HeldOut, updates: int, step: Step = OWN
) -> Tensor:
    """Adapt every run to every task and measure each update on the query points.

    Args:
        adapter: How to adapt.
        theta: What was learned, ``(run, M)``; unchanged.
        tasks: Held-out tasks, of theta's type.
        updates: U, full-batch gradient steps on the support points.
        step: Their size.

    Returns:
        Losses ``(region, update, run, task)``, with update 0 before any step.
    """

    def losses(copies: Tensor, batches: Points, step: Step, query: Points) -> Tensor:
        predicted = adapter.predict(copies, batches, query.x, step)
        square = predicted.sub_(query.y).square_().squeeze(-1)  # (update, run, task, point)
        return torch.stack([square[..., index].mean(-1) for index in tasks.regions.values()])

    return _in_chunks(losses, theta, tasks, updates, step)


def final_losses(
    adapter: Adapter, theta: Tensor, tasks: HeldOut, updates: int, step: Step = OWN
) -> Tensor:
    """Return the loss on all query points after the last update, ``(run, task)``.

    Arguments are those of `adaptation_losses`.
    """

    def losses(copies: Tensor, batches: Points, step: Step, query: Points) -> Tensor:
        predicted = adapter.predict(copies, batches, query.x, step, every=False)
        return predicted.sub_(query.y).square_().mean((-2, -1))

    return _in_chunks(losses, theta, tasks, updates, step)


def _in_chunks(losses: Losses, theta: Tensor, tasks: HeldOut, updates: int, step: Step) -> Tensor:
    """Return losses ``(..., task)``, computed for `CHUNK` tasks at a time."""
    found = []
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
        found.append(losses(copies, support.repeated(updates), of_copies, Points(x, y)))
    return torch.cat(found, dim=-1)


def cast(tasks: HeldOut, dtype: torch.dtype) -> HeldOut:
    """Return held-out tasks of another floating-point type."""
    return HeldOut(tasks.support.to(dtype), tasks.query.to(dtype), tasks.regions)


def picture_x(distribution: TaskDistribution) -> Tensor:
    """Return where pictures are drawn, ``(point, feature)``, float64: a little beyond the domain."""
    (low, high), features = distribution.domain, distribution.features
    beyond = MARGIN * (high - low)
    points = PICTURE_POINTS.get(features, max(2, int(PICTURE ** (1 / features))))
    return lattice((low - beyond, high + beyond), points, features)


def showcase_support(distribution: TaskDistribution, task: Task, protocol: Protocol) -> Points:
    """Return the support points of the task of the pictures, the same for every cell and seed.

    Args:
        distribution: That of the tasks under the protocol, whose noise the labels have.
        task: The task.
        protocol: Says how many points there are, and where.
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
        settings: What is evaluated, and how.
        theta: What was learned, ``(run, M)``.
        algorithm: What learned it.
        advance: Called after each protocol.

    Returns:
        Arrays by name, as `metabench.records.arrays` declares them.
    """
    adapter = Adapter(algorithm.adaptation, settings.shape, settings.hyperparameters)
    found: dict[str, Tensor] = {}
    for name, protocol in settings.protocols.items():
        for kind, step, tensor in _under_protocol(settings, adapter, theta, protocol):
            found["/".join(filter(None, (kind, name, step)))] = tensor
        advance()
    return found


Measured = tuple[str, str, Tensor]
"""Name of an array, the step rule that it belongs to, and its values."""


def _under_protocol(
    settings: EvaluateSettings, adapter: Adapter, theta: Tensor, protocol: EvaluatedProtocol
) -> Iterator[Measured]:
    """Yield what `evaluate` finds under one protocol."""
    adapter = adapter.under(protocol)
    distribution = protocol.distribution(settings.tasks)

    def bank(purpose: str, tasks: int) -> HeldOut:
        return cast(
            held_out(Bank(protocol.bank, purpose, distribution, tasks), protocol), theta.dtype
        )

    test = bank("test-bank", settings.banks.test)
    validation = bank("validation-bank", settings.banks.validation)

    def losses(tasks: HeldOut, step: Step) -> Tensor:
        return adaptation_losses(adapter, theta, tasks, protocol.updates, step)

    rules = adapter.adaptation.rules(protocol.steps)
    tuning = None
    if "tuned" in rules:
        candidates = torch.tensor(settings.tuning_step_sizes, dtype=torch.float64)
        tuning = _tuning(candidates, lambda step: losses(validation, step), len(theta))
        yield "tuning", "", tuning
    known: list[tuple[Tensor, Tensor, Tensor]] = []  # step sizes, validation and test losses
    for rule in rules:
        step, sizes = _step(rule, settings, adapter, len(theta), tuning)
        twin = [
            found for found in known if adapter.adaptation.plain and torch.equal(found[0], sizes)
        ]
        if not twin:
            known.append((sizes, losses(validation, step)[0], losses(test, step)))
        _, on_validation, on_test = (twin or known[-1:])[0]
        yield "step_size", rule, sizes
        yield "validation", rule, on_validation
        yield "test", rule, on_test
    first, _ = _step(rules[0], settings, adapter, len(theta), tuning)
    yield "showcase", "", _showcase(settings, adapter, theta, protocol, first)


def _tuning(candidates: Tensor, losses: Callable[[Step], Tensor], runs: int) -> Tensor:
    """Return each run's mean validation loss at each candidate step size, ``(step, run)``."""
    at_each = [losses(Step(size.expand(runs)))[0, -1] for size in candidates]
    return torch.stack([found.double().mean(-1) for found in at_each])


def _step(
    rule: str, settings: EvaluateSettings, adapter: Adapter, runs: int, tuning: Tensor | None
) -> tuple[Step, Tensor]:
    """Return the step that a rule stands for, and its size for each run ``(run,)``.

    The size is nan where the algorithm takes no gradient steps, and that which learned sizes began
    with where it learns them.
    """
    kind, number = step_rule(rule)
    if kind == "own":
        own = getattr(adapter.h, "inner_step_size", nan)
        return Step(multiple=number), torch.full((runs,), number * own, dtype=torch.float64)
    if kind == "tuned":
        assert tuning is not None
        candidates = torch.tensor(settings.tuning_step_sizes, dtype=torch.float64)
        sizes = candidates[tuning.nan_to_num(nan=torch.inf).argmin(0)]
    else:
        size = settings.common_step_size if kind == "common" else number
        sizes = torch.full((runs,), size, dtype=torch.float64)
    return Step(sizes), sizes


def _showcase(
    settings: EvaluateSettings, adapter: Adapter, theta: Tensor, protocol: Protocol, step: Step
) -> Tensor:
    """Return predictions before and after adaptation to the showcase task, ``(2, run, point)``."""
    task = settings.tasks.one(**settings.showcase)
    distribution = protocol.distribution(settings.tasks)
    points = showcase_support(distribution, task, protocol).to(theta.dtype)
    if step.size is not None:
        step = step._replace(size=step.size.to(theta.dtype))
    x = picture_x(settings.tasks).to(theta.dtype)
    predicted = adapter.predict(theta, points.repeated(protocol.updates), x, step)
    return predicted[[0, -1], ..., 0]
