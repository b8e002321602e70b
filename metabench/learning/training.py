"""Meta-training: all seeds of a cell as one tensor program.

    theta <- optimizer step along meta_gradient(theta, data of the meta-iteration)

theta ``(run, M)`` is all that an algorithm learns. Nothing loops over runs, and no run depends on
its neighbours.
"""

from __future__ import annotations

import ctypes
import gc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from metabench.learning.algorithm import Algorithm, Batch
from metabench.learning.evaluation import OWN, Adapter, Step, final_losses
from metabench.learning.held_out import held_out
from metabench.learning.hyperparameters import Hyperparameters, OuterLoop
from metabench.learning.network import Network
from metabench.learning.optimizers import OPTIMIZERS, SCHEDULES
from metabench.learning.randomness import BLOCK
from metabench.learning.settings import TrainSettings
from metabench.learning.tasks import TaskStream


class State(NamedTuple):
    """All that training needs to resume; after the last meta-iteration, its result.

    Args:
        meta_iteration: Number of completed meta-iterations.
        theta: Learned values, ``(run, M)``.
        memory: Moments of the outer optimizer, ``(moment, run, M)``.
        diverged_at: The first meta-iteration after which theta was not finite, or 0 if theta is
            finite, ``(run,)``.
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
    memory = theta.new_zeros(moments(h), *theta.shape)
    diverged_at = torch.zeros(len(seeds), dtype=torch.int64)
    losses = torch.zeros(0, len(seeds), dtype=torch.float64)
    return State(0, theta, memory, diverged_at, losses)


def moments(h: Hyperparameters) -> int:
    """Return the number of moments, tensors like theta, that the outer optimizer keeps."""
    return OPTIMIZERS[h.meta_optimizer].moments if isinstance(h, OuterLoop) else 0


@contextmanager
def _existing_objects_frozen() -> Iterator[None]:
    """Exempt existing objects from garbage collection.

    A pass over everything that was imported takes a tenth of a second.
    """
    if gc.get_freeze_count():  # already frozen by a caller, which will unfreeze it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@cache
def _keep_freed_memory() -> None:
    """Tell glibc to keep freed memory.

    By default it returns the tensors of a stack to the system at the end of each meta-iteration,
    and the next one requests the same pages again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(-1, 1 << 26)  # M_TRIM_THRESHOLD: return memory beyond 64 MB
        mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD: map blocks of 32 MB and more separately


@_existing_objects_frozen()
def train(
    settings: TrainSettings,
    seeds: tuple[int, ...],
    algorithm: Algorithm,
    state: State | None = None,
    after_interval: Callable[[State], None] = lambda state: None,
    dtype: torch.dtype = torch.float32,
) -> State:
    """Meta-train one cell for a stack of seeds.

    Args:
        settings: Settings of the training job.
        seeds: Seed of each run.
        algorithm: The cell's algorithm.
        state: State to resume from; by default, training starts from the beginning.
        after_interval: Called with the state after each validation.
        dtype: Type of all arithmetic.

    Returns:
        The state after the last meta-iteration. A diverged run's theta is NaN throughout.
    """
    _keep_freed_memory()
    h, network, total = settings.hyperparameters, settings.shape, settings.meta_iterations
    validate = _validation(settings, Adapter(algorithm.adaptation, network, h), dtype)
    if state is None:
        state = _with_validation(begin(algorithm, network, seeds, h, dtype), validate)
    if not total:
        return state

    assert isinstance(h, OuterLoop)  # an algorithm without one has no meta-iterations
    stream = TaskStream(settings.tasks, seeds, h.meta_batch_size)
    optimizer, schedule = OPTIMIZERS[h.meta_optimizer], SCHEDULES[h.meta_schedule]
    interval = settings.validation.interval

    @lru_cache(maxsize=1)  # consecutive meta-iterations share a block
    def data(block: int) -> Batch:
        return tuple(points.to(dtype) for points in algorithm.sample(stream.block(block), h))

    @lru_cache(maxsize=1)
    def batches(block: int) -> list[Batch]:
        return _batches(data(block))

    def steps(theta: Tensor, memory: Tensor, start: int, stop: int) -> Steps:
        """Yield theta and the optimizer's memory after each meta-iteration from `start` on."""
        for i in range(start, stop):
            batch = batches(i // BLOCK)[i % BLOCK]
            gradient = algorithm.meta_gradient(network, theta, batch, h.at(i / total))
            if h.meta_clip is not None:
                gradient = gradient.clamp(-h.meta_clip, h.meta_clip)
            size = h.meta_step_size * schedule(i / total)
            theta, memory = optimizer.step(theta, gradient, memory, size, i)
            yield theta, memory

    def last(theta: Tensor, memory: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return what `steps` yields last, in fewer calls where the algorithm allows."""
        if algorithm.descend is None or not _plain(h):
            return _last(steps(theta, memory, start, stop))
        for block, part in _parts(start, stop):
            batches = tuple(points.at(part) for points in data(block))
            theta = algorithm.descend(network, theta, batches, h.meta_step_size)
        return theta, memory

    while state.meta_iteration < total:
        start = state.meta_iteration
        stop = min((start // interval + 1) * interval, total)
        theta, memory = last(state.theta, state.memory, start, stop)
        diverged_at = state.diverged_at
        if (~_finite(theta) & (diverged_at == 0)).any():
            # A theta that is not finite stays so, so one check for each interval suffices. To find
            # the meta-iteration, the interval is repeated: checking each one would slow every run.
            repeated = steps(state.theta, state.memory, start, stop)
            first = _first_not_finite(repeated, start, stop, len(theta))
            diverged_at = torch.where(diverged_at > 0, diverged_at, first)
        theta = torch.where((diverged_at > 0)[:, None], torch.nan, theta)
        now = State(stop, theta, memory, diverged_at, state.validation_loss)
        state = _with_validation(now, validate)
        after_interval(state)
    return state


Steps = Iterator[tuple[Tensor, Tensor]]
"""theta and the optimizer's memory after each meta-iteration."""


def _last(steps: Steps) -> tuple[Tensor, Tensor]:
    """Return the last step, and keep no other in memory."""
    return deque(steps, maxlen=1).pop()


def _finite(theta: Tensor) -> Tensor:
    """Return which runs have only finite values, ``(run,)``."""
    return theta.isfinite().all(-1)


def _first_not_finite(steps: Steps, start: int, stop: int, runs: int) -> Tensor:
    """Return the first meta-iteration after which a run is not finite, 0 if none is, ``(run,)``."""
    # One tensor for all: a small one kept from each meta-iteration would fragment the heap.
    finite = torch.empty(stop - start, runs, dtype=torch.bool)
    for row, (theta, _) in zip(finite, steps, strict=True):
        row.copy_(_finite(theta))
    return torch.where(finite.all(0), 0, start + 1 + (~finite).int().argmax(0))


def _batches(block: Batch) -> list[Batch]:
    """Return the data of each meta-iteration of a block."""
    return list(zip(*(points.unbind() for points in block), strict=True))


def _plain(h: OuterLoop) -> bool:
    """Return whether all outer steps are plain descent with one size."""
    return (h.meta_optimizer, h.meta_schedule, h.meta_clip) == ("sgd", "constant", None)


def _parts(start: int, stop: int) -> Iterator[tuple[int, slice]]:
    """Yield the blocks of meta-iterations from start to stop, and the part of each."""
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        first = block * BLOCK
        yield block, slice(max(start - first, 0), min(stop - first, BLOCK))


def _validation(
    settings: TrainSettings, adapter: Adapter, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Return the function from theta ``(run, M)`` to the mean validation loss ``(run,)``.

    It measures the loss on the validation bank after the last update.
    """
    given = settings.validation
    tasks = held_out(given.protocol, settings.tasks, "validation-bank", given.tasks).to(dtype)
    adapter = adapter.under(given.protocol)

    def validate(theta: Tensor) -> Tensor:
        step = OWN
        if given.step is not None:
            step = Step(torch.full((len(theta),), given.step, dtype=torch.float64))
        losses = final_losses(adapter, theta, tasks, given.protocol.updates, step)
        return losses.double().mean(-1)

    return validate


def _with_validation(state: State, validate: Callable[[Tensor], Tensor]) -> State:
    return state._replace(
        validation_loss=torch.cat([state.validation_loss, validate(state.theta)[None]])
    )
