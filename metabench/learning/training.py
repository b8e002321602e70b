"""Meta-training: all seeds of a cell as one tensor program.

    theta <- optimizer step along meta_gradient(theta, data of the meta-iteration)

theta, all that an algorithm learns, is ``(run, M)``; nothing loops over runs, and no run notices
its neighbours.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metabench.learning.algorithms.protocol import Algorithm, Batch, Hyperparameters
from metabench.learning.evaluation import Predict, cast, final_losses, held_out
from metabench.learning.network import Network
from metabench.learning.optimizers import OPTIMIZERS, SCHEDULES
from metabench.learning.randomness import BLOCK
from metabench.learning.tasks import Bank, TaskDistribution, TaskStream, distribution


class State(NamedTuple):
    """All that training needs to go on, and in the end its result.

    Args:
        meta_iteration: How many are done.
        theta: ``(run, M)``.
        memory: What the outer optimizer remembers, ``(moment, run, M)``.
        diverged_at: The meta-iteration after which theta first was not finite, 0 if it is,
            ``(run,)``.
        validation_loss: Mean over the validation bank after meta-iterations 0, interval, ...,
            ``(evaluation, run)``.
    """

    meta_iteration: int
    theta: Tensor
    memory: Tensor
    diverged_at: Tensor
    validation_loss: Tensor


def begin(
    algorithm: Algorithm,
    network: Network,
    seeds: tuple[int, ...],
    h: Hyperparameters,
    dtype: torch.dtype = torch.float32,
) -> State:
    """Return the state before the first meta-iteration."""
    theta = algorithm.begin(network, seeds, h).to(dtype)
    memory = theta.new_zeros(OPTIMIZERS[h.meta_optimizer].moments, *theta.shape)
    diverged_at, losses = (
        torch.zeros(len(seeds), dtype=torch.int64),
        torch.zeros(0, len(seeds), dtype=torch.float64),
    )
    return State(0, theta, memory, diverged_at, losses)


@contextmanager
def _collector_spared() -> Iterator[None]:
    """Have the garbage collector look at what is new only: at all that was imported it takes a
    tenth of a second.
    """
    if gc.get_freeze_count():  # whoever did it before will undo it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@_collector_spared()
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
        settings: As `metabench.study.plans.train_settings` gives them.
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
    tasks = distribution(settings["tasks"])
    stream = TaskStream(tasks, seeds, h.meta_batch_size)
    validate = _validation(settings, partial(algorithm.predictions, network, h=h), tasks, dtype)
    optimizer, schedule = OPTIMIZERS[h.meta_optimizer], SCHEDULES[h.meta_schedule]
    interval, total = settings["validation"]["interval"], settings["meta_iterations"]

    @lru_cache(maxsize=1)
    def batches(block: int) -> list[Batch]:
        return _batches(algorithm.sample(stream.block(block), h), dtype)

    def steps(
        theta: Tensor, memory: Tensor, begun: int, stop: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield theta and what the optimizer remembers after each meta-iteration from `begun` on."""
        for i in range(begun, stop):
            gradient = algorithm.meta_gradient(network, theta, batches(i // BLOCK)[i % BLOCK], h)
            theta, memory = optimizer.step(
                theta, gradient, memory, h.meta_step_size * schedule(i / total), i
            )
            yield theta, memory

    state = state or _with_validation(begin(algorithm, network, seeds, h, dtype), validate)
    while state.meta_iteration < total:
        begun = state.meta_iteration
        stop = min((begun // interval + 1) * interval, total)
        theta, memory = deque(steps(state.theta, state.memory, begun, stop), maxlen=1).pop()
        diverged_at = state.diverged_at
        if (
            ~_finite(theta) & (diverged_at == 0)
        ).any():  # what is not finite stays so; when did it begin?
            finite = torch.empty(
                stop - begun, len(theta), dtype=torch.bool
            )  # small pieces would split memory
            for row, (each, _) in zip(
                finite, steps(state.theta, state.memory, begun, stop), strict=True
            ):
                row.copy_(_finite(each))
            diverged_at = torch.where(diverged_at > 0, diverged_at, _first_not_finite(finite, stop))
        theta = torch.where((diverged_at > 0)[:, None], torch.nan, theta)
        now = State(stop, theta, memory, diverged_at, state.validation_loss)
        state = _with_validation(now, validate)
        after_interval(state)
    return state


def _finite(theta: Tensor) -> Tensor:
    """Return which runs are finite throughout, ``(run,)``."""
    return theta.isfinite().all(-1)


def _first_not_finite(finite: Tensor, last: int) -> Tensor:
    """Return the first of the meta-iterations up to `last`, ``(iteration, run)``, after which a run
    is not; else 0.
    """
    return torch.where(finite.all(0), 0, last - len(finite) + 1 + (~finite).int().argmax(0))


def _batches(block: Batch, dtype: torch.dtype) -> list[Batch]:
    """Return what each meta-iteration of a block uses."""
    return list(zip(*(points.to(dtype).unbind() for points in block), strict=True))


def _validation(
    settings: Mapping[str, Any],
    predict: Predict,
    distribution: TaskDistribution,
    dtype: torch.dtype,
) -> Callable[[Tensor], Tensor]:
    """Return the function from theta ``(run, M)`` to the mean validation loss after the last
    update, ``(run,)``.
    """
    given = settings["validation"]
    protocol, size = given["protocol"], given["step_size"]
    bank = Bank(settings["study"], "validation-bank", distribution, given["tasks"])
    tasks = cast(held_out(bank, protocol), dtype)

    def validate(theta: Tensor) -> Tensor:
        step = None if size is None else torch.full((len(theta),), size, dtype=torch.float64)
        return final_losses(predict, theta, tasks, protocol["updates"], step).double().mean(-1)

    return validate


def _with_validation(state: State, validate: Callable[[Tensor], Tensor]) -> State:
    return state._replace(
        validation_loss=torch.cat([state.validation_loss, validate(state.theta)[None]])
    )
