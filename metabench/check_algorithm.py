"""What every algorithm must hold to, checked on its file alone, and said in plain words where it
does not.

`metabench check-algorithm mine.py` runs these checks on any file; the tests run them on every
algorithm of the package.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metabench.learning import algorithms, training
from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithms.protocol import (
    OUTER_OPTIONS,
    Algorithm,
    Batch,
    Cost,
    Hyperparameters,
)
from metabench.learning.network import Network
from metabench.learning.randomness import BLOCK
from metabench.learning.tasks import Bank, Points, SineDistribution, TaskDistribution, TaskStream
from metabench.records import artifacts, records
from metabench.study.config import STEPS

SEEDS = (4, 0, 9)
UPDATES = 3
EXAMPLE = Hyperparameters(
    meta_step_size=0.01, meta_batch_size=2, shots=5, inner_steps=2, inner_step_size=0.02, context=3
)
"""What an algorithm is tried with, as far as it asks for it."""


NETWORK, TASKS = Network((1, 16, 16, 1)), SineDistribution()
"""Where it is tried, unless something else is said."""


class Counting(Network):
    """A network that counts the gradients that are taken of it, and their points, by torch."""

    def _kernel(self, theta: Tensor, *others: float | Tensor) -> None:
        return None

    def loss_and_gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Count one gradient a network."""
        self._count(1, theta, y)
        return super().loss_and_gradient(theta, x, y)

    def hessian_product(self, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Count two gradients a network."""
        self._count(2, theta, y)
        return super().hessian_product(theta, x, y, v)

    def _count(self, gradients: int, theta: Tensor, y: Tensor) -> None:
        networks = gradients * prod(theta.shape[:-1])
        found = self.__dict__.setdefault("counted", [0, 0])
        found[:] = found[0] + networks, found[1] + networks * y.shape[-2]


@dataclass(frozen=True)
class Subject:
    """An algorithm with all that is needed to try it.

    Args:
        spelled: Its name, or its file.
        network: The network.
        tasks: The task distribution.
    """

    spelled: str
    network: Network = NETWORK
    tasks: TaskDistribution = TASKS

    @cached_property
    def algorithm(self) -> Algorithm:
        """The module."""
        return algorithms.load(self.spelled)

    @cached_property
    def h(self) -> Hyperparameters:
        """The example, as far as the algorithm asks for it."""
        return Hyperparameters(
            **{name: getattr(EXAMPLE, name) for name in self.algorithm.HYPERPARAMETERS}
        )

    def begin(self, seeds: tuple[int, ...] = SEEDS, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return what seeds begin with, ``(run, M)``."""
        return self.algorithm.begin(self.network, seeds, self.h).to(dtype)

    def block(self, seeds: tuple[int, ...] = SEEDS) -> Batch:
        """Return the data of the first block."""
        return self.algorithm.sample(
            TaskStream(self.tasks, seeds, self.h.meta_batch_size).block(0), self.h
        )

    def batch(self, seeds: tuple[int, ...] = SEEDS, dtype: torch.dtype = torch.float32) -> Batch:
        """Return the data of one meta-iteration."""
        return tuple(Points(*points).at(7).to(dtype) for points in self.block(seeds))

    def gradient(self, theta: Tensor, batch: Batch, network: Network | None = None) -> Tensor:
        """Return the meta-gradient."""
        return self.algorithm.meta_gradient(network or self.network, theta, batch, self.h)

    def predict(self, theta: Tensor, support: Points, x: Tensor, **more: Any) -> Tensor:
        """Return predictions for copies of theta."""
        copies = one_copy_per_task(theta, support.x.shape[-3])
        batches = support.repeated(UPDATES)
        return self.algorithm.predictions(
            self.network, copies, batches, x, self.h, self._step(copies), **more
        )

    def _step(self, copies: Tensor) -> Tensor | None:
        """Return no step size where the algorithm has its own."""
        return None if "own" in self.algorithm.STEPS else copies.new_full(copies.shape[:-1], 0.02)

    def support(self, dtype: torch.dtype = torch.float32) -> Points:
        """Return support points of four tasks."""
        return (
            Bank("conformance", "validation-bank", self.tasks, 4).support(5, (-5.0, 5.0)).to(dtype)
        )

    def settings(self, meta_iterations: int) -> dict[str, Any]:
        """Return the settings of a short training."""
        step = None if "own" in self.algorithm.STEPS else 0.02
        protocol = {"shots": 5, "support": [0.0, 5.0], "updates": UPDATES, "queries": 0}
        return {
            "study": "conformance",
            "algorithm": self.spelled,
            "hyperparameters": self.h.given,
            "meta_iterations": meta_iterations if self.h.meta_batch_size else 0,
            "tasks": self.tasks.model_dump(mode="json"),
            "network": {
                "hidden": list(self.network.widths[1:-1]),
                "activation": self.network.activation,
            },
            "validation": {"tasks": 4, "interval": 4, "protocol": protocol, "step_size": step},
        }

    def train(
        self, meta_iterations: int, seeds: tuple[int, ...] = SEEDS, **more: Any
    ) -> training.State:
        """Train for a short time."""
        return training.train(self.settings(meta_iterations), seeds, self.algorithm, **more)


class NotHeldError(Exception):
    """What does not hold, in plain words."""


def must(holds: bool, otherwise: str) -> None:
    """Raise NotHeldError unless a condition holds."""
    if not holds:
        raise NotHeldError(otherwise)


def same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have the same bits, NaN included."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(a.nan_to_num(nan=1e30), b.nan_to_num(nan=1e30))
    )


def declares_what_it_reads(s: Subject) -> None:
    """It names known hyperparameters and step sizes, and says in its docstring what it does."""
    names, known = [f.name for f in fields(Hyperparameters)], set(STEPS)
    for name in (*s.algorithm.HYPERPARAMETERS, *s.algorithm.OPTIONS):
        must(
            name in names,
            f"HYPERPARAMETERS and OPTIONS must be of {', '.join(names)}; got {name!r}",
        )
    must(
        not set(OUTER_OPTIONS) & set(s.algorithm.HYPERPARAMETERS),
        f"{' and '.join(OUTER_OPTIONS)} are the outer loop's",
    )
    steps = s.algorithm.STEPS
    must(
        len(steps) > 0 and set(steps) <= known,
        f"STEPS must be some of {', '.join(STEPS)}; got {steps!r}",
    )
    must(
        bool((s.algorithm.__doc__ or "").strip()),
        "the file must begin with a docstring that says what it does",
    )


def counts_its_cost(s: Subject) -> None:
    """Its cost is a Cost of whole numbers: the tasks of a meta-batch, and no less than the
    gradients that it takes.
    """
    cost: Any = s.algorithm.cost(s.h, s.tasks)
    must(
        isinstance(cost, Cost) and set(map(type, cost)) == {int} and min(cost) >= 0,
        f"cost must be a Cost, got {cost!r}",
    )
    must(
        cost.tasks == s.h.meta_batch_size,
        f"a meta-iteration has meta_batch_size tasks, {s.h.meta_batch_size}; cost says {cost.tasks}",
    )
    network = Counting(s.network.widths, s.network.activation)
    s.gradient(s.begin((0,)), s.batch((0,)), network)
    counted = network.__dict__.get("counted", [0, 0])
    must(
        counted[0] <= cost.gradient_evaluations and counted[1] <= cost.point_gradients,
        f"cost says {cost.gradient_evaluations} gradients and {cost.point_gradients} point-gradients a meta-iteration; "
        f"counted were {counted[0]} and {counted[1]} (a Hessian-vector product is two)",
    )


def begins_with_its_seed(s: Subject) -> None:
    """`begin` gives each seed finite float64 numbers ``(run, M)``, whatever other seeds there are."""
    theta = s.algorithm.begin(s.network, SEEDS, s.h)
    must(
        theta.dim() == 2 and len(theta) == len(SEEDS),
        f"begin must return (run, M), a row a seed; got {tuple(theta.shape)}",
    )
    must(theta.dtype == torch.float64, f"begin must return float64; got {theta.dtype}")
    must(bool(theta.isfinite().all()), "begin must return finite numbers")
    for row, seed in zip(theta, SEEDS, strict=True):
        must(
            same(s.algorithm.begin(s.network, (seed,), s.h)[0], row),
            "a seed must begin alike, alone or beside others",
        )


def samples_whole_blocks(s: Subject) -> None:
    """`sample` returns labelled points in float64, the iteration first, of no more tasks than a
    meta-batch has.
    """
    block: Any = s.block()
    for points in block:
        shapes = [tuple(p.shape) for p in points]
        must(
            len(points) == 2 and all(p.dtype == torch.float64 for p in points),
            "sample must return Points in float64",
        )
        must(
            all(shape[0] == BLOCK for shape in shapes),
            f"the first axis must be the iteration, {BLOCK}; got {shapes}",
        )
        if points.y.dim() >= 5:  # (iteration, ..., run, task, point, 1)
            must(
                points.y.shape[-3] <= s.h.meta_batch_size and points.y.shape[-4] == len(SEEDS),
                f"labels must be (iteration, ..., run, task, point, 1) of {len(SEEDS)} runs and {s.h.meta_batch_size} "
                f"tasks at most; got {shapes[1]}",
            )


def returns_the_right_shape(s: Subject) -> None:
    """`meta_gradient` returns a finite direction of theta's shape and type, and changes nothing
    that it is given.
    """
    for dtype in (torch.float32, torch.float64):
        theta, batch = s.begin(dtype=dtype), s.batch(dtype=dtype)
        found = s.gradient(theta, batch)
        must(
            found.shape == theta.shape,
            f"meta_gradient must return theta's shape {tuple(theta.shape)}; got {tuple(found.shape)}",
        )
        must(found.dtype == dtype, f"meta_gradient must keep the type {dtype}; got {found.dtype}")
        must(
            not found.requires_grad,
            "meta_gradient must return plain numbers: detach them from autograd",
        )
        must(bool(found.isfinite().all()), "meta_gradient must be finite at the beginning")
        must(same(theta, s.begin(dtype=dtype)), "meta_gradient must not change theta")
        untouched = zip(batch, s.batch(dtype=dtype), strict=True)
        must(
            all(same(a, b) for pair in untouched for a, b in zip(*pair, strict=True)),
            "meta_gradient must not change its data",
        )


def is_deterministic(s: Subject) -> None:
    """The same arguments give the same bits, again and again."""
    first = s.gradient(s.begin(), s.batch())
    for _ in range(3):
        must(
            same(s.gradient(s.begin(), s.batch()), first),
            "meta_gradient gave other numbers for the same arguments",
        )
    predicted = s.predict(s.begin(), s.support(), s.tasks.grid.float())
    again = s.predict(s.begin(), s.support(), s.tasks.grid.float())
    must(same(predicted, again), "predictions gave other numbers for the same arguments")


def leaves_global_randomness_alone(s: Subject) -> None:
    """No global random state is read or changed: randomness comes from the tasks that `sample` is
    given, and seeds.
    """
    states = _global_states()
    try:
        found = [_under(seed, lambda: _everything(s)) for seed in (1, 2)]
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
    must(
        all(same(a, b) for a, b in zip(*(f[0] for f in found), strict=True)),
        "results depend on a global random state",
    )
    must(all(unchanged for _, unchanged in found), "a global random state is changed")


def _global_states() -> tuple[Tensor, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _under(seed: int, run: Callable[[], list[Tensor]]) -> tuple[list[Tensor], bool]:
    """Run under global random states of a seed; return the results and whether the states stayed as
    they were.
    """
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    before = _global_states()
    results, after = run(), _global_states()
    unchanged = (
        torch.equal(before[0], after[0])
        and str(before[1]) == str(after[1])
        and before[2] == after[2]
    )
    return results, unchanged


def _everything(s: Subject) -> list[Tensor]:
    data = [p for points in s.batch() for p in points]
    return [
        s.begin(),
        *data,
        s.gradient(s.begin(), s.batch()),
        s.predict(s.begin(), s.support(), s.tasks.grid.float()),
    ]


def notices_no_neighbour(s: Subject) -> None:
    """A run has the same bits alone, in a stack, and beside a run that has diverged."""
    together = s.gradient(s.begin(), s.batch())
    for run, seed in enumerate(SEEDS):
        alone = s.gradient(s.begin((seed,)), s.batch((seed,)))
        must(
            same(alone[0], together[run]),
            f"the run of seed {seed} gets another meta_gradient beside other runs",
        )
    lost = s.begin()
    lost[1] = torch.nan
    found = s.gradient(lost, s.batch())
    must(
        same(found[[0, 2]], together[[0, 2]]),
        "a run that diverged changes the meta_gradient of its neighbours",
    )


def does_not_peek(s: Subject) -> None:
    """Where `sample` returns a support and a query set, query labels enter through the query's
    squared error alone.

    Its gradient at the adapted parameters is affine in the labels; whatever adapted to them is not.
    """
    batch = s.batch(dtype=torch.float64)
    if len(batch) != 2:
        return
    support, query = batch
    theta = s.begin(dtype=torch.float64)
    first, last, middle = (
        s.gradient(theta, (support, Points(query.x, query.y + shift * query.x.cos())))
        for shift in (0.0, 2.0, 1.0)
    )
    must(
        torch.allclose(
            (first + last) / 2, middle, rtol=1e-6, atol=1e-9 * float(middle.abs().max())
        ),
        "adaptation has seen the query labels: meta_gradient must be affine in them, as is that of a squared error",
    )


def predicts_every_update(s: Subject) -> None:
    """`predictions` returns finite numbers ``(update, run, task, point, 1)``, and the last ones
    alone if asked.
    """
    theta, support, x = s.begin(), s.support(), s.tasks.grid.float()
    found, want = s.predict(theta, support, x), (UPDATES + 1, len(SEEDS), 4, len(x), 1)
    must(
        tuple(found.shape) == want,
        f"predictions must return {want}, (update, run, task, point, 1); got {tuple(found.shape)}",
    )
    must(
        found.dtype == theta.dtype and not found.requires_grad,
        "predictions must keep theta's type, and be detached",
    )
    must(bool(found.isfinite().all()), "predictions must be finite at the beginning")
    last = s.predict(theta, support, x, every=False)
    must(
        tuple(last.shape) == want[1:],
        f"with every=False predictions must return {want[1:]}; got {tuple(last.shape)}",
    )
    must(
        torch.allclose(last, found[-1], rtol=1e-4, atol=1e-5),
        "with every=False predictions must be those of the last update",
    )


def predicts_each_point_by_itself(s: Subject) -> None:
    """Predictions depend on the support points of their own run and task, and on no other query
    point.
    """
    theta, support, x = s.begin(), s.support(), s.tasks.grid.float()
    found = s.predict(theta, support, x)
    few = s.predict(theta, support, x[10:20])
    must(
        torch.allclose(few, found[..., 10:20, :], rtol=1e-4, atol=1e-5),
        "a prediction depends on which other points are asked",
    )
    other = Points(support.x.clone(), support.y.clone())
    other.y[1] += 5
    changed = s.predict(theta, other, x)
    must(
        same(changed[:, :, [0, 2, 3]], found[:, :, [0, 2, 3]]),
        "a prediction depends on the support points of another task",
    )
    must(
        same(changed[0], found[0]),
        "predictions before the first update depend on the support labels",
    )
    alone = s.predict(theta[1:2], support, x)
    must(same(alone[:, 0], found[:, 1]), "a run predicts otherwise beside other runs")


def trains_to_finite_losses(s: Subject) -> None:
    """A short training at small steps keeps theta and validation losses finite."""
    state = s.train(8)
    must(bool(state.theta.isfinite().all()), "theta is not finite after 8 meta-iterations")
    must(
        bool(state.validation_loss.isfinite().all()),
        "a validation loss is not finite within 8 meta-iterations",
    )


def goes_on_from_a_checkpoint(s: Subject) -> None:
    """Training that is interrupted and goes on from its checkpoint ends at the same bits."""
    states: list[training.State] = []
    whole = s.train(8, after_interval=states.append)
    if not states:
        return
    header = records.training_header(s.settings(8), "0-2")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        artifacts.write(path, records.from_state(states[0]), header)
        again = s.train(8, state=records.read_checkpoint(path, header))
    must(same(again.theta, whole.theta), "training that goes on from a checkpoint ends elsewhere")


def fits_the_outer_optimizers(s: Subject) -> None:
    """What it returns can be descended by every optimizer and schedule of the outer loop."""
    if "meta_step_size" not in s.algorithm.HYPERPARAMETERS:
        return
    others: tuple[dict[str, Any], ...] = (
        {"meta_optimizer": "adam"},
        {"meta_schedule": "linear"},
        {"meta_schedule": "cosine"},
    )
    for changes in others:
        other = Subject(s.spelled, s.network, s.tasks)
        other.__dict__["h"] = replace(s.h, **changes)
        must(
            bool(other.train(4).theta.isfinite().all()),
            f"theta is not finite after 4 meta-iterations with {changes}",
        )


CHECKS: tuple[Callable[[Subject], None], ...] = (
    declares_what_it_reads,
    counts_its_cost,
    begins_with_its_seed,
    samples_whole_blocks,
    returns_the_right_shape,
    is_deterministic,
    leaves_global_randomness_alone,
    notices_no_neighbour,
    does_not_peek,
    predicts_every_update,
    predicts_each_point_by_itself,
    trains_to_finite_losses,
    goes_on_from_a_checkpoint,
    fits_the_outer_optimizers,
)


class Finding(NamedTuple):
    """What one check found."""

    rule: str
    """What must hold."""
    wrong: str | None
    """What does not, or None."""


def findings(spelled: str) -> Iterator[Finding]:
    """Yield what each check finds of an algorithm, by its name or file.

    Raises:
        ValueError: It cannot be loaded.
    """
    subject = Subject(spelled)
    algorithms.load(spelled)
    for check in CHECKS:
        rule = (check.__doc__ or "").split("\n")[0]
        try:
            check(subject)
        except NotHeldError as error:
            yield Finding(rule, str(error))
        except Exception as error:  # what an author's code may raise
            yield Finding(rule, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        else:
            yield Finding(rule, None)
