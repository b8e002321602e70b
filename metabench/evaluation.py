"""How well an initialization adapts: every update of every run on every task of a bank.

    loss[region, update, run, task] = mean over the region's grid points of (prediction at phi_update - y)^2

Regions: `all` of the query grid, and where the support interval is not the whole domain the grid points inside
(`seen`) and outside (`unseen`) it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metabench.adaptation import Points, adapted, one_copy_per_task, predictions
from metabench.network import Network
from metabench.randomness import uniforms
from metabench.tasks import Bank, Interval, Sine, SineDistribution, scale

CHUNK = 16
"""Tasks adapted at a time by each run of a stack: a constant, chosen so that the stack stays in cache."""

SHOWCASE_X = torch.linspace(-5.5, 5.5, 111, dtype=torch.float64)[:, None]
"""Where the pictures of the showcase wave are drawn, ``(point, feature)``."""


Losses = Callable[[Tensor, Points, Tensor, Points], Tensor]


class HeldOut(NamedTuple):
    """The tasks of a bank, ready to be adapted to under one protocol."""

    support: Points
    """``(task, shots, feature)``."""
    query: Points
    """The grid ``(point, feature)`` and its labels ``(task, point, feature)``."""
    regions: dict[str, Tensor]
    """Indices of each region's grid points."""


def held_out(bank: Bank, shots: int, support: Interval) -> HeldOut:
    """Return a bank's tasks under a protocol, float64."""
    waves, x, grid = bank.waves(), bank.support(shots, support), bank.distribution.grid
    return HeldOut(Points(x, waves(x)), Points(grid, waves(grid)), regions(bank.distribution, support))


def regions(distribution: SineDistribution, support: Interval) -> dict[str, Tensor]:
    """Return the grid indices of each region of a support interval."""
    x = distribution.grid[:, 0]
    seen = (x >= support[0]) & (x <= support[1])
    found = {"all": torch.arange(len(x))}
    return found if bool(seen.all()) else {**found, "seen": seen.nonzero()[:, 0], "unseen": (~seen).nonzero()[:, 0]}


def adaptation_losses(network: Network, theta: Tensor, tasks: HeldOut, updates: int, step_size: Tensor) -> Tensor:
    """Adapt every run to every task and measure each update on the query grid.

    Args:
        network: The network.
        theta: Initializations, ``(run, P)``; unchanged.
        tasks: Held-out tasks, of theta's type.
        updates: U, full-batch gradient steps on the support points.
        step_size: Of each run, ``(run,)``.

    Returns:
        Losses ``(region, update, run, task)``, with update 0 before any step.
    """

    def losses(phi: Tensor, batches: Points, steps: Tensor, query: Points) -> Tensor:
        predicted = predictions(network, phi, batches, steps, query.x)
        square = predicted.sub_(query.y).square_().squeeze(-1)  # (update, run, task, point)
        return torch.stack([square[..., index].mean(-1) for index in tasks.regions.values()])

    return _in_chunks(losses, theta, tasks, updates, step_size)


def final_losses(network: Network, theta: Tensor, tasks: HeldOut, updates: int, step_size: Tensor) -> Tensor:
    """Return the loss on the whole grid after the last update, ``(run, task)``; arguments as `adaptation_losses`."""

    def losses(phi: Tensor, batches: Points, steps: Tensor, query: Points) -> Tensor:
        return network.loss(adapted(network, phi, batches, steps), *query)

    return _in_chunks(losses, theta, tasks, updates, step_size)


def _in_chunks(losses: Losses, theta: Tensor, tasks: HeldOut, updates: int, step_size: Tensor) -> Tensor:
    """Return losses ``(..., task)``, computed for `CHUNK` tasks at a time.

    Args:
        losses: From parameters ``(run, task, P)``, batches ``(update, task, shots, feature)``, step sizes ``(run,
            task)`` and query points.
        theta: Initializations, ``(run, P)``.
        tasks: Held-out tasks.
        updates: Gradient steps.
        step_size: Of each run, ``(run,)``.
    """
    found = []
    for start in range(0, len(tasks.query.y), CHUNK):
        support, y = tasks.support.at(chunk := slice(start, start + CHUNK)), tasks.query.y[chunk]
        phi = one_copy_per_task(theta, len(y))
        steps = step_size.to(theta.dtype)[:, None].expand(phi.shape[:-1])
        found.append(losses(phi, support.repeated(updates), steps, Points(tasks.query.x, y)))
    return torch.cat(found, dim=-1)


def cast(tasks: HeldOut, dtype: torch.dtype) -> HeldOut:
    """Return held-out tasks of another floating-point type."""
    return HeldOut(tasks.support.to(dtype), tasks.query.to(dtype), tasks.regions)


class Showcase(NamedTuple):
    """The pictures of one wave."""

    support: Points
    """``(shots, feature)``."""
    prediction: Tensor
    """Before and after adaptation at `SHOWCASE_X`, ``(2, run, point)``."""


def showcase_wave(settings: Mapping[str, Any]) -> Sine:
    """Return the wave of the pictures."""
    return Sine(*(torch.tensor(float(settings["showcase"][k]), dtype=torch.float64) for k in ("amplitude", "phase")))


def showcase_support(study: str, wave: Sine, shots: int, interval: Interval) -> Points:
    """Return the support points of the showcase wave, the same for every cell and seed."""
    x = scale(torch.from_numpy(uniforms(study, "showcase", 0, shots)), interval)[:, None]
    return Points(x, wave(x))


def evaluate(
    settings: Mapping[str, Any], theta: Tensor, advance: Callable[[], None] = lambda: None
) -> dict[str, Tensor]:
    """Evaluate trained initializations under every protocol, as `metabench.plans.evaluate_settings` asks.

    Step sizes: `own` is the cell's inner_step_size, where it has one; `common` the study's; `tuned` is chosen by each
    run of a cell without one, on the validation bank.

    Args:
        settings: The settings.
        theta: Initializations, ``(run, P)``.
        advance: Called after each protocol and step size.

    Returns:
        ``test/PROTOCOL/STEP`` losses ``(region, update, run, task)``, ``validation/PROTOCOL/STEP`` losses of the last
        update on the whole grid ``(run, task)``, ``step_size/PROTOCOL/STEP`` ``(run,)``, ``tuning/PROTOCOL`` mean
        validation losses ``(step, run)``, and ``showcase/PROTOCOL`` predictions ``(2, run, point)``.
    """
    distribution = SineDistribution(**settings["tasks"])
    network = Network.of(**settings["network"])
    test = Bank(settings["study"], "test-bank", distribution, settings["test_tasks"])
    validation = Bank(settings["study"], "validation-bank", distribution, settings["validation_tasks"])
    found: dict[str, Tensor] = {}
    for name, protocol in settings["protocols"].items():
        on_test, on_validation = (
            cast(held_out(bank, protocol["shots"], tuple(protocol["support"])), theta.dtype)
            for bank in (test, validation)
        )
        for key, value in _under_protocol(settings, network, theta, protocol, on_test, on_validation, advance):
            kind, *step = key.split("/")
            found["/".join([kind, name, *step])] = value
    return found


def _under_protocol(
    settings: Mapping[str, Any],
    network: Network,
    theta: Tensor,
    protocol: Mapping[str, Any],
    test: HeldOut,
    validation: HeldOut,
    advance: Callable[[], None],
) -> Iterator[tuple[str, Tensor]]:
    """Yield what `evaluate` finds under one protocol, named without it: ``test/STEP``, ``tuning``, ..."""

    def losses(tasks: HeldOut, step: Tensor) -> Tensor:
        return adaptation_losses(network, theta, tasks, protocol["updates"], step)

    steps, tuning = _step_sizes(settings, len(theta), lambda step: losses(validation, step)[0, -1])
    if tuning is not None:
        yield "tuning", tuning
    measured: dict[str, tuple[Tensor, Tensor]] = {}
    for label, step in steps.items():
        twin = next(other for other in steps if torch.equal(steps[other], step))
        if twin == label:
            measured[label] = losses(validation, step)[0, -1], losses(test, step)
        yield f"step_size/{label}", step
        yield f"validation/{label}", measured[twin][0]
        yield f"test/{label}", measured[twin][1]
        advance()
    yield "showcase", _showcase(settings, network, theta, protocol, next(iter(steps.values())))


def _step_sizes(
    settings: Mapping[str, Any], runs: int, validation_losses: Callable[[Tensor], Tensor]
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return the step sizes ``(run,)`` to evaluate, and the tuning losses ``(step, run)`` if there was a choice."""
    common = torch.full((runs,), settings["common_step_size"], dtype=torch.float64)
    if settings["own_step_size"] is not None:
        return {"own": torch.full_like(common, settings["own_step_size"]), "common": common}, None
    candidates = torch.tensor(settings["tuning_step_sizes"], dtype=torch.float64)
    losses = torch.stack([validation_losses(c.expand(runs)).double().mean(-1) for c in candidates])
    best = losses.nan_to_num(nan=torch.inf).argmin(0)
    return {"common": common, "tuned": candidates[best]}, losses


def _showcase(
    settings: Mapping[str, Any], network: Network, theta: Tensor, protocol: Mapping[str, Any], step: Tensor
) -> Tensor:
    """Return predictions before and after adaptation to the showcase wave, ``(2, run, point)``."""
    points = showcase_support(settings["study"], showcase_wave(settings), protocol["shots"], tuple(protocol["support"]))
    phi = adapted(network, theta, points.to(theta.dtype).repeated(protocol["updates"]), step.to(theta.dtype))
    x = SHOWCASE_X.to(theta.dtype)
    return torch.stack([network.predict(p, x)[..., 0] for p in (theta, phi)])
