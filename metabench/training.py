"""Meta-training: all seeds of a cell as one tensor program.

    theta <- theta - meta_step_size * meta_gradient(theta, data of the meta-iteration)

theta is ``(run, P)``; nothing loops over runs, and no run notices its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metabench.algorithms.protocol import Algorithm, Batch, Hyperparameters
from metabench.evaluation import cast, final_losses, held_out
from metabench.network import Network, descended
from metabench.randomness import BLOCK
from metabench.tasks import Bank, SineDistribution, TaskStream


class State(NamedTuple):
    """All that training needs to go on, and in the end its result.

    Args:
        meta_iteration: How many are done.
        theta: ``(run, P)``.
        diverged_at: The meta-iteration after which theta first was not finite, 0 if it is, ``(run,)``.
        validation_loss: Mean over the validation bank after meta-iterations 0, interval, ..., ``(evaluation, run)``.
    """

    meta_iteration: int
    theta: Tensor
    diverged_at: Tensor
    validation_loss: Tensor


def begin(network: Network, seeds: tuple[int, ...], dtype: torch.dtype = torch.float32) -> State:
    """Return the state before the first meta-iteration: the initial weights of each seed."""
    theta = torch.stack([network.initialize(seed) for seed in seeds]).to(dtype)
    return State(0, theta, torch.zeros(len(seeds), dtype=torch.int64), torch.zeros(0, len(seeds), dtype=torch.float64))


def train(
    settings: Mapping[str, Any],
    seeds: tuple[int, ...],
    algorithm: Algorithm,
    state: State | None = None,
    after_interval: Callable[[State], None] = lambda state: None,
    dtype: torch.dtype = torch.float32,
) -> State:
    """Meta-train one cell for a stack of seeds.

    Args:
        settings: As `metabench.plans.train_settings` gives them.
        seeds: One seed a run.
        algorithm: The cell's algorithm.
        state: Where to go on; by default the beginning.
        after_interval: Called with the state after each validation.
        dtype: Of all arithmetic.

    Returns:
        The state after the last meta-iteration. A diverged run's theta is NaN throughout.
    """
    h = Hyperparameters(**settings["hyperparameters"])
    network = Network.of(**settings["network"])
    distribution = SineDistribution(**settings["tasks"])
    stream = TaskStream(distribution, seeds, h.meta_batch_size)
    validate = _validation(settings, network, distribution, dtype)
    interval = settings["validation"]["interval"]
    state = state or _with_validation(begin(network, seeds, dtype), validate)
    block, batches = -1, list[Batch]()
    while state.meta_iteration < settings["meta_iterations"]:
        theta, begun = state.theta, state.meta_iteration
        stop = min((state.meta_iteration // interval + 1) * interval, settings["meta_iterations"])
        sums = torch.empty(stop - begun, len(theta), dtype=dtype)  # kept in one piece: small ones would split memory
        for i in range(begun, stop):
            if i // BLOCK != block:
                block = i // BLOCK
                batches = _batches(algorithm.sample(stream, block, h), dtype)
            gradient = algorithm.meta_gradient(network, theta, batches[i % BLOCK], h)
            theta = descended(theta, gradient, h.meta_step_size)
            torch.sum(
                theta, -1, out=sums[i - begun]
            )  # finite where all is, up to 1e34, and cheaper than a look at each
        diverged_at = torch.where(state.diverged_at > 0, state.diverged_at, _first_not_finite(sums, stop))
        theta = torch.where((diverged_at > 0)[:, None], torch.nan, theta)
        state = _with_validation(state._replace(meta_iteration=stop, theta=theta, diverged_at=diverged_at), validate)
        after_interval(state)
    return state


def _first_not_finite(sums: Tensor, last: int) -> Tensor:
    """Return the first of the meta-iterations up to `last` whose sum, ``(iteration, run)``, is not finite; else 0."""
    wrong = ~sums.isfinite()
    return torch.where(wrong.any(0), last - len(sums) + 1 + wrong.int().argmax(0), 0)


def _batches(block: Batch, dtype: torch.dtype) -> list[Batch]:
    """Return what each meta-iteration of a block uses."""
    return list(zip(*(points.to(dtype).unbind() for points in block), strict=True))


def _validation(
    settings: Mapping[str, Any], network: Network, distribution: SineDistribution, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Return the function from theta ``(run, P)`` to the mean validation loss after the last update, ``(run,)``."""
    given = settings["validation"]
    protocol = given["protocol"]
    bank = Bank(settings["study"], "validation-bank", distribution, given["tasks"])
    tasks = cast(held_out(bank, protocol["shots"], tuple(protocol["support"])), dtype)

    def validate(theta: Tensor) -> Tensor:
        step = torch.full((len(theta),), given["step_size"], dtype=torch.float64)
        return final_losses(network, theta, tasks, protocol["updates"], step).double().mean(-1)

    return validate


def _with_validation(state: State, validate: Callable[[Tensor], Tensor]) -> State:
    return state._replace(validation_loss=torch.cat([state.validation_loss, validate(state.theta)[None]]))
