"""How well an initialization adapts: every update of every run on every task of a bank.

    loss[region, update, run, task] = mean over the region's grid points of (prediction at
    phi_update - y)^2

Regions: `all` of the query grid, and where the support interval is not the whole domain the grid
    points inside
(`seen`) and outside (`unseen`) it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import nan
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithms.protocol import Algorithm, Hyperparameters, descending
from metabench.learning.fields import Interval
from metabench.learning.network import Network
from metabench.learning.randomness import uniforms
from metabench.learning.tasks import Bank, Points, Task, TaskDistribution, distribution, scale

CHUNK = 16
"""Tasks adapted at a time by each run of a stack: a constant, chosen so that the stack stays in
cache.
"""

SHOWCASE_X = torch.linspace(-5.5, 5.5, 111, dtype=torch.float64)[:, None]
"""Where the pictures are drawn, ``(point, feature)``."""


Predict = partial[Tensor]
"""`metabench.learning.algorithms.protocol.Algorithm.predictions` of a network and hyperparameters:
theta, batches, x, ...
"""

Losses = Callable[[Tensor, Points, Tensor | None, Points], Tensor]


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


def held_out(bank: Bank, protocol: Mapping[str, Any]) -> HeldOut:
    """Return a bank's tasks under a protocol, float64."""
    support = bank.support(protocol["shots"], protocol["support"])
    return HeldOut(support, bank.query(protocol["queries"]), regions(bank.distribution, protocol))


def regions(distribution: TaskDistribution, protocol: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the indices of each region's query points: of fresh points, which each task has its
    own, all alone.
    """
    if protocol["queries"]:
        return {"all": torch.arange(protocol["queries"])}
    x, support = distribution.grid[:, 0], protocol["support"]
    seen = (x >= support[0]) & (x <= support[1])
    found = {"all": torch.arange(len(x))}
    return (
        found
        if bool(seen.all())
        else {**found, "seen": seen.nonzero()[:, 0], "unseen": (~seen).nonzero()[:, 0]}
    )


def adaptation_losses(
    predict: Predict, theta: Tensor, tasks: HeldOut, updates: int, step_size: Tensor | None
) -> Tensor:
    """Adapt every run to every task and measure each update on the query grid.

    Args:
        predict: How an algorithm adapts and predicts.
        theta: What it learned, ``(run, M)``; unchanged.
        tasks: Held-out tasks, of theta's type.
        updates: U, full-batch gradient steps on the support points.
        step_size: Of each run, ``(run,)``; None stands for the algorithm's own.

    Returns:
        Losses ``(region, update, run, task)``, with update 0 before any step.
    """

    def losses(copies: Tensor, batches: Points, steps: Tensor | None, query: Points) -> Tensor:
        predicted = predict(copies, batches, query.x, step_size=steps)
        square = predicted.sub_(query.y).square_().squeeze(-1)  # (update, run, task, point)
        return torch.stack([square[..., index].mean(-1) for index in tasks.regions.values()])

    return _in_chunks(losses, theta, tasks, updates, step_size)


def final_losses(
    predict: Predict, theta: Tensor, tasks: HeldOut, updates: int, step_size: Tensor | None
) -> Tensor:
    """Return the loss on the whole grid after the last update, ``(run, task)``; arguments as
    `adaptation_losses`.
    """

    def losses(copies: Tensor, batches: Points, steps: Tensor | None, query: Points) -> Tensor:
        predicted = predict(copies, batches, query.x, step_size=steps, every=False)
        return predicted.sub_(query.y).square_().mean((-2, -1))

    return _in_chunks(losses, theta, tasks, updates, step_size)


def _in_chunks(
    losses: Losses, theta: Tensor, tasks: HeldOut, updates: int, step_size: Tensor | None
) -> Tensor:
    """Return losses ``(..., task)``, computed for `CHUNK` tasks at a time.

    Args:
        losses: From copies of theta ``(run, task, M)``, batches ``(update, task, shots, feature)``,
            step sizes ``(run, task)`` and query points.
        theta: ``(run, M)``.
        tasks: Held-out tasks.
        updates: Gradient steps.
        step_size: Of each run, ``(run,)``, or None.
    """
    found = []
    for start in range(0, len(tasks.query.y), CHUNK):
        support, y = tasks.support.at(chunk := slice(start, start + CHUNK)), tasks.query.y[chunk]
        x = tasks.query.x if tasks.query.x.dim() == 2 else tasks.query.x[chunk]
        copies = one_copy_per_task(theta, len(y))
        steps = (
            None
            if step_size is None
            else step_size.to(theta.dtype)[:, None].expand(copies.shape[:-1])
        )
        found.append(losses(copies, support.repeated(updates), steps, Points(x, y)))
    return torch.cat(found, dim=-1)


def cast(tasks: HeldOut, dtype: torch.dtype) -> HeldOut:
    """Return held-out tasks of another floating-point type."""
    return HeldOut(tasks.support.to(dtype), tasks.query.to(dtype), tasks.regions)


def showcase_task(distribution: TaskDistribution, settings: Mapping[str, Any]) -> Task:
    """Return the task of the pictures."""
    return distribution.one(**settings["showcase"])


def showcase_support(
    distribution: TaskDistribution, study: str, task: Task, shots: int, interval: Interval
) -> Points:
    """Return the support points of the task of the pictures, the same for every cell and seed."""
    x = scale(torch.from_numpy(uniforms(study, "showcase", 0, shots)), interval)[:, None]
    return Points(x, distribution.observed(task(x), lambda: uniforms(study, "showcase", 1, shots)))


def evaluate(
    settings: Mapping[str, Any],
    theta: Tensor,
    algorithm: Algorithm,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """Evaluate trained initializations under every protocol, as
    `metabench.study.plans.evaluate_settings` asks.

    Step sizes: `own` is the algorithm's; `common` the study's; `tuned` is chosen by each run of an
    algorithm without its own, on the validation bank.

    Args:
        settings: The settings.
        theta: What was learned, ``(run, M)``.
        algorithm: What learned it.
        advance: Called after each protocol and step size.

    Returns:
        ``test/PROTOCOL/STEP`` losses ``(region, update, run, task)``, ``validation/PROTOCOL/STEP``
        losses of the last update on the whole grid ``(run, task)``, ``step_size/PROTOCOL/STEP``
        ``(run,)``, ``tuning/PROTOCOL`` mean validation losses ``(step, run)``, and
        ``showcase/PROTOCOL`` predictions ``(2, run, point)``.
    """
    tasks, h = distribution(settings["tasks"]), Hyperparameters(**settings["hyperparameters"])
    predict = partial(algorithm.predictions, Network.of(**settings["network"]), h=h)
    test = Bank(settings["study"], "test-bank", tasks, settings["test_tasks"])
    validation = Bank(settings["study"], "validation-bank", tasks, settings["validation_tasks"])
    found: dict[str, Tensor] = {}
    for name, protocol in settings["protocols"].items():
        on_test, on_validation = (
            cast(held_out(bank, protocol), theta.dtype) for bank in (test, validation)
        )
        for key, value in _under_protocol(
            settings, predict, theta, protocol, on_test, on_validation, advance
        ):
            kind, *step = key.split("/")
            found["/".join([kind, name, *step])] = value
    return found


def _under_protocol(
    settings: Mapping[str, Any],
    predict: Predict,
    theta: Tensor,
    protocol: Mapping[str, Any],
    test: HeldOut,
    validation: HeldOut,
    advance: Callable[[], None],
) -> Iterator[tuple[str, Tensor]]:
    """Yield what `evaluate` finds under one protocol, named without it: ``test/STEP``, ``tuning``,
    ...
    """

    def losses(tasks: HeldOut, step: Tensor | None) -> Tensor:
        return adaptation_losses(predict, theta, tasks, protocol["updates"], step)

    steps, tuning = _step_sizes(settings, len(theta), lambda step: losses(validation, step)[0, -1])
    if tuning is not None:
        yield "tuning", tuning
    own = torch.full(
        (len(theta),), settings["hyperparameters"].get("inner_step_size", nan), dtype=torch.float64
    )
    measured: dict[str, tuple[Tensor, Tensor]] = {}
    for label, step in steps.items():
        size = own if step is None else step
        twin = (
            "own"
            if predict.func is descending and torch.equal(size, own) and "own" in measured
            else label
        )
        if twin == label:
            measured[label] = losses(validation, step)[0, -1], losses(test, step)
        yield f"step_size/{label}", size
        yield f"validation/{label}", measured[twin][0]
        yield f"test/{label}", measured[twin][1]
        advance()
    yield "showcase", _showcase(settings, predict, theta, protocol, next(iter(steps.values())))


def _step_sizes(
    settings: Mapping[str, Any], runs: int, validation_losses: Callable[[Tensor], Tensor]
) -> tuple[dict[str, Tensor | None], Tensor | None]:
    """Return the step sizes ``(run,)`` to evaluate, and the tuning losses ``(step, run)`` if there
    is a choice.
    """
    common = torch.full((runs,), settings["common_step_size"], dtype=torch.float64)
    steps: dict[str, Tensor | None] = {"own": None, "common": common}
    losses = None
    if "tuned" in settings["steps"]:
        candidates = torch.tensor(settings["tuning_step_sizes"], dtype=torch.float64)
        losses = torch.stack(
            [validation_losses(c.expand(runs)).double().mean(-1) for c in candidates]
        )
        steps["tuned"] = candidates[losses.nan_to_num(nan=torch.inf).argmin(0)]
    return {label: steps[label] for label in settings["steps"]}, losses


def _showcase(
    settings: Mapping[str, Any],
    predict: Predict,
    theta: Tensor,
    protocol: Mapping[str, Any],
    step: Tensor | None,
) -> Tensor:
    """Return predictions before and after adaptation to the task of the pictures, ``(2, run,
    point)``.
    """
    tasks, shots, interval = (
        distribution(settings["tasks"]),
        protocol["shots"],
        tuple(protocol["support"]),
    )
    points = showcase_support(
        tasks, settings["study"], showcase_task(tasks, settings), shots, interval
    ).to(theta.dtype)
    step = None if step is None else step.to(theta.dtype)
    predicted = predict(
        theta, points.repeated(protocol["updates"]), SHOWCASE_X.to(theta.dtype), step_size=step
    )
    return predicted[[0, -1], ..., 0]
