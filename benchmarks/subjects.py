"""The subjects: an arithmetic floor, metabench's own training job, and peers that do the same
meta-iterations.

A subject is called repeatedly; each call does `iterations` meta-iterations, counted over all runs.

The job is the real one: random draws, outer update, validation and a checkpoint each interval.
Peers start from the same weights (`Algorithm.begin`) and see the same points (`Algorithm.sample`),
drawn and rounded in advance. They run no validation and write no checkpoints. Therefore metabench
is also timed at their work: `EqualWork`. Each peer is compared with metabench before it is timed.
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equations import Library, learned, meta_gradient, outputs_of
from operations import flops
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from metabench.learning import algorithms, engine, training
from metabench.learning.algorithm import Batch
from metabench.learning.network import Network
from metabench.learning.optimizers import EPSILON, SCHEDULES
from metabench.learning.randomness import BLOCK
from metabench.learning.settings import TrainSettings
from metabench.learning.tasks import Points, TaskStream
from metabench.records import artifacts, states
from metabench.study import config
from metabench.study.jobs import Study

STUDY = Study(config.load(Path(__file__).with_name("workloads.yaml")))
STACK = 10
BETA1, BETA2 = 0.9, 0.999
"""Adam's constants."""

CHECKED = 100
"""Meta-iterations after which a peer must agree with metabench."""

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-11}
"""Allowed deviation, relative to the distance that the parameters have moved; a step size off by 1%
gives 1e-2. In float32 the first steps of Adam follow the signs of gradients, even of small ones.
"""


class Disagreement(ValueError):
    """A peer does not compute what metabench computes."""


def workloads(study: Study = STUDY) -> dict[str, TrainSettings]:
    """Return the settings of the published cell of each algorithm that trains."""
    cells = [cell for cell in study.cells if cell.role == "published" and cell.meta_iterations]
    return {cell.algorithm: study.train_settings(cell) for cell in cells}


def read(content: Mapping[str, Any]) -> TrainSettings:
    """Return the settings of a training job from JSON."""
    given = dict(content)
    model = algorithms.load(given["algorithm"]).hyperparameters
    h = model.model_validate(given.pop("hyperparameters"))
    return TrainSettings(hyperparameters=h, **given)


def torch_product(size: int) -> Callable[[], object]:
    """Return a product of two square matrices in float32."""
    a, b = torch.rand(2, size, size)
    out = torch.empty(size, size)
    return lambda: torch.mm(a, b, out=out)


def numpy_product(size: int) -> Callable[[], object]:
    """Return a product of two square matrices in float32."""
    a, b = np.random.default_rng(0).random((2, size, size), dtype=np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def jax_product(size: int) -> Callable[[], object]:
    """Return a product of two square matrices in float32."""
    import jax

    a, b = (
        jax.numpy.asarray(matrix)
        for matrix in np.random.default_rng(0).random((2, size, size), dtype=np.float32)
    )
    product = jax.jit(jax.numpy.matmul)
    return lambda: product(a, b).block_until_ready()


PRODUCTS = {"numpy": numpy_product, "torch": torch_product, "jax": jax_product}


class Floor:
    """The time of the arithmetic alone, at the rate of a library's best product in float32."""

    SIZES = (256, 512, 1024)

    def __init__(self, settings: TrainSettings, library: str) -> None:
        rates = {size: self._rate(PRODUCTS[library](size), size) for size in self.SIZES}
        size = max(rates, key=rates.__getitem__)
        self.product, self.repeats = PRODUCTS[library](size), (max(self.SIZES) // size) ** 3
        # The same count for every worker, whichever size each finds best.
        self.iterations = 2 * max(self.SIZES) ** 3 / flops(settings)
        self.description = {"size": size, "GFLOP/s": rates[size] / 1e9}

    @staticmethod
    def _rate(product: Callable[[], object], size: int) -> float:
        """Return operations per second, the best of several products; the first ones warm up."""
        seconds = []
        for _ in range(12):
            start = time.perf_counter()
            product()
            seconds.append(time.perf_counter() - start)
        return 2 * size**3 / min(seconds)

    def __call__(self) -> None:
        """Repeat a product until it equals one product of the largest size."""
        for _ in range(self.repeats):
            self.product()


def engines() -> tuple[str, ...]:
    """Return the names of the engines that are available here, metabench's choice first."""
    return engine.NAMES if engine.library() else ("torch",)


@contextmanager
def using(name: str) -> Iterator[None]:
    """Compute with an engine within the body: the only place that selects one."""
    before = os.environ.get(engine.VARIABLE)
    try:
        engine.use(name)
        yield
    finally:
        os.environ.pop(engine.VARIABLE)
        if before is not None:
            os.environ[engine.VARIABLE] = before
        engine.name.cache_clear()


class Job:
    """Metabench's training job, one validation interval per call."""

    def __init__(self, settings: TrainSettings, stack: int, engine: str) -> None:
        self.settings, self.seeds, self.engine = settings, tuple(range(stack)), engine
        self.algorithm = algorithms.load(settings.algorithm)
        self.interval = settings.validation.interval
        self.iterations = self.interval * stack
        self.state: training.State | None = None
        self.description: dict[str, Any] = {}

    def __call__(self) -> None:
        """Continue from the end of the last call."""
        with tempfile.TemporaryDirectory() as folder:

            def checkpoint(state: training.State) -> None:
                path = Path(folder) / "checkpoint.safetensors"
                artifacts.write(path, states.from_state(state), {})

            self.advance(checkpoint)

    def advance(self, after_interval: Callable[[training.State], None]) -> None:
        """Train for one more interval."""
        done = self.state.meta_iteration if self.state else 0
        settings = self.settings.model_copy(update={"meta_iterations": done + self.interval})
        with using(self.engine):
            self.state = training.train(
                settings, self.seeds, self.algorithm, self.state, after_interval
            )


class EqualWork(Job):
    """The training job with the work of a peer: no draws, no checkpoints, and nearly no validation.

    Like a peer it repeats the first block of points, drawn and rounded in advance. A validation of
    two tasks, the fewest, remains.
    """

    def __init__(self, settings: TrainSettings, stack: int, engine: str) -> None:
        super().__init__(_quick(settings, settings.validation.interval), stack, engine)
        drawn = tuple(points.to(torch.float32) for points in _block(settings, stack))
        self.algorithm = replace(self.algorithm, sample=lambda block, h: drawn)

    def __call__(self) -> None:
        """Continue from the end of the last call."""
        self.advance(lambda state: None)


def _quick(settings: TrainSettings, interval: int) -> TrainSettings:
    """Return the settings with an interval of validation, and as few tasks as possible for it."""
    quick = {"tasks": 2, "interval": interval}
    validation = settings.validation.model_copy(update=quick)
    return settings.model_copy(update={"validation": validation})


def _block(settings: TrainSettings, stack: int) -> Batch:
    """Return the first block of an algorithm's points."""
    h: Any = settings.hyperparameters
    stream = TaskStream(settings.tasks, tuple(range(stack)), h.meta_batch_size)
    return algorithms.load(settings.algorithm).sample(stream.block(0), h)


class Peer(ABC):
    """Another library's implementation of the meta-iterations of a stack of runs.

    Args:
        settings: Settings of the job.
        stack: Number of runs, with the seeds 0, 1, ...
        dtype: Type of all arithmetic.
    """

    def __init__(
        self, settings: TrainSettings, stack: int, dtype: torch.dtype = torch.float32
    ) -> None:
        self.settings, self.stack, self.done = settings, stack, 0
        self.algorithm: str = settings.algorithm
        self.h: Any = settings.hyperparameters
        self.network = outputs_of(settings.algorithm, settings.shape)
        algorithm, seeds = algorithms.load(settings.algorithm), tuple(range(stack))
        self.start = training.begin(algorithm, settings.shape, seeds, self.h, dtype).theta
        self.data = _points(settings, stack, dtype)
        self.axes = tuple((0 if x.dim() == y.dim() else None, 0) for x, y in self.data)
        self.iterations = CHECKED * stack
        self.description: dict[str, Any] = {}
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Convert parameters and points to the peer's form."""

    @abstractmethod
    def advance(self, count: int) -> None:
        """Do some more meta-iterations."""

    @property
    @abstractmethod
    def theta(self) -> Tensor:
        """The current parameters, ``(run, P)`` as in `Network`."""

    def __call__(self) -> None:
        """Do the number of meta-iterations that were checked."""
        self.advance(CHECKED)

    def at_next(self, count: int) -> Iterator[tuple[int, int]]:
        """Yield the next meta-iterations, and the positions of their points in the block."""
        for i in range(self.done, self.done + count):
            yield i, i % BLOCK
        self.done += count


def _points(settings: TrainSettings, stack: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Return the first block of an algorithm's points, x and y ``(iteration, run, task, [step,]
    point, 1)``; x of a shared grid, ``(iteration, point, 1)``.
    """
    h: Any = settings.hyperparameters
    batch = _block(settings, stack)
    if settings.algorithm in ("reptile", "fomaml_tail"):  # their steps come before their runs
        batch = tuple(Points(p.x.movedim(1, 3), p.y.movedim(1, 3)) for p in batch)
    if settings.algorithm == "joint":  # it puts the points of all tasks together
        tasks = h.meta_batch_size, h.shots
        batch = tuple(Points(p.x.unflatten(2, tasks), p.y.unflatten(2, tasks)) for p in batch)
    return [(p.x.to(dtype).contiguous(), p.y.to(dtype).contiguous()) for p in batch]


MODULES = {"tanh": nn.Tanh, "relu": nn.ReLU}


def module_of(network: Network, theta: Tensor) -> nn.Sequential:
    """Return a module with the parameters ``(P,)`` of one network; nn.Linear stores weights as
    (fan_out, fan_in).
    """
    parts: list[nn.Module] = []
    with torch.no_grad():
        for weight, bias in network.layers(theta):
            linear = nn.Linear(*weight.shape, dtype=theta.dtype)
            linear.weight.copy_(weight.T)
            linear.bias.copy_(bias[0])
            parts += [linear, MODULES[network.activation]()]
    return nn.Sequential(*parts[:-1])


class Loop(Peer):
    """The straightforward implementation of the paper: a module, autograd, torch.optim.SGD, one run
    after another.
    """

    def begin(self) -> None:
        """Create a module for each run."""
        self.models = [module_of(self.network, theta) for theta in self.start]
        self.step: Callable[..., None] = getattr(self, self.algorithm)

    def advance(self, count: int) -> None:
        """Loop over meta-iterations and runs."""
        for _, i in self.at_next(count):
            for run, model in enumerate(self.models):
                points = [
                    (x[i, run] if x.dim() == y.dim() else x[i], y[i, run]) for x, y in self.data
                ]
                self.step(model, *((x.expand_as(y), y) for x, y in points))

    def fomaml(
        self, model: nn.Module, support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor]
    ) -> None:
        """Add up the query gradients of adapted copies."""
        total = [torch.zeros_like(p) for p in model.parameters()]
        for sx, sy, qx, qy in zip(*support, *query, strict=True):
            learner = copy.deepcopy(model)
            optimizer = torch.optim.SGD(learner.parameters(), lr=self.h.inner_step_size)
            for _ in range(self.h.inner_steps):
                self.descend(learner, sx, sy, optimizer)
            optimizer.zero_grad()
            nn.functional.mse_loss(learner(qx), qy).backward()
            for t, p in zip(total, learner.parameters(), strict=True):
                t.add_(p.grad)
        with torch.no_grad():
            for p, t in zip(model.parameters(), total, strict=True):
                p.sub_(t, alpha=self.h.meta_step_size)

    def reptile(self, model: nn.Module, points: tuple[Tensor, Tensor]) -> None:
        """Move towards the mean of adapted copies."""
        learners = [copy.deepcopy(model) for _ in range(self.h.meta_batch_size)]
        for learner, tx, ty in zip(learners, *points, strict=True):
            optimizer = torch.optim.SGD(learner.parameters(), lr=self.h.inner_step_size)
            for x, y in zip(tx, ty, strict=True):
                self.descend(learner, x, y, optimizer)
        with torch.no_grad():
            for p, *adapted in zip(
                model.parameters(), *(learner.parameters() for learner in learners), strict=True
            ):
                p.lerp_(sum(adapted) / len(adapted), self.h.meta_step_size)

    def joint(self, model: nn.Module, points: tuple[Tensor, Tensor]) -> None:
        """Take one step on the points of all tasks."""
        self.descend(model, *points, torch.optim.SGD(model.parameters(), lr=self.h.meta_step_size))

    @staticmethod
    def descend(model: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Take one gradient step."""
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()

    @property
    def theta(self) -> Tensor:
        """As `Peer.theta`."""
        return torch.stack([_vector(list(model.parameters())) for model in self.models])


def _vector(tensors: list[Tensor]) -> Tensor:
    """Return the parameters of a module as the flat vector ``(P,)`` of `Network`."""
    return torch.cat([(t.T if t.dim() == 2 else t).detach().flatten() for t in tensors])


class Functional(Peer):
    """The functional way: a tree of parameters, grad, vmap over tasks and over stacked runs."""

    def meta_iteration(self, library: Library) -> Callable[..., Any]:
        """Return the function from a run's state, numbers and points to its next state.

        The state has the learned values and, for Adam, both moments; the numbers are those of
        `numbers`.
        """
        of_run = meta_gradient(self.algorithm, self.network, self.h, self.axes, library)
        map_tree = library.map_tree

        def descend(state: Any, numbers: Any, points: Any) -> Any:
            (theta,), (size, _, _) = state, numbers
            return (map_tree(lambda p, g: p - size * g, theta, of_run(theta, *points)),)

        def adam(state: Any, numbers: Any, points: Any) -> Any:
            (theta, m, v), (size, first, second) = state, numbers
            slope = of_run(theta, *points)
            m = map_tree(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, slope)
            v = map_tree(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, slope)

            def moved(p: Any, m: Any, v: Any) -> Any:
                return p - size * (m / first) / ((v / second) ** 0.5 + EPSILON)

            return map_tree(moved, theta, m, v), m, v

        return adam if self.h.meta_optimizer == "adam" else descend

    def numbers(self, i: int) -> tuple[float, float, float]:
        """Return size and bias corrections of the outer step of meta-iteration i."""
        share = i / self.settings.meta_iterations
        size = self.h.meta_step_size * SCHEDULES[self.h.meta_schedule](share)
        return size, 1 - BETA1 ** (i + 1), 1 - BETA2 ** (i + 1)

    def state(self) -> tuple[Any, ...]:
        """Return the initial state of a stack, as torch tensors."""
        tree = learned(self.algorithm, self.network, self.h, self.start)
        if self.h.meta_optimizer == "sgd":
            return (tree,)
        return tree, tree_map(torch.zeros_like, tree), tree_map(torch.zeros_like, tree)

    def stacked(self, step: Any, library: Library) -> Any:
        """Return a meta-iteration of the stack, from that of one run."""
        return step if self.stack == 1 else library.map(step, (0, None, [*self.axes]))

    def alone(self, tree: Any) -> Any:
        """Remove the run axis of a stack with one run; leave larger stacks unchanged."""
        return tree_map(lambda t: t[0], tree) if self.stack == 1 else tree

    def points(self) -> list[tuple[Tensor, Tensor]]:
        """Return the points, without the run axis for one run."""
        if self.stack > 1:
            return self.data
        return [(x[:, 0] if x.dim() == y.dim() else x, y[:, 0]) for x, y in self.data]


class TorchFunc(Functional):
    """The functional way of PyTorch."""

    def begin(self) -> None:
        """Take the parameters as a tree."""
        library = Library(
            torch,
            torch.func.grad,
            torch.func.vmap,
            tree_map,
            lambda a, b: torch.cholesky_solve(b, torch.linalg.cholesky(a)),
            lambda slope, at, v: torch.func.vjp(slope, at)[1](v)[0],  # a Hessian is symmetric
            torch.softmax,
        )
        self.step = self.stacked(self.meta_iteration(library), library)
        self.now, self.data = self.alone(self.state()), self.points()

    def advance(self, count: int) -> None:
        """Loop over meta-iterations."""
        for i, place in self.at_next(count):
            points = [(x[place], y[place]) for x, y in self.data]
            self.now = self.step(self.now, self.numbers(i), points)

    @property
    def theta(self) -> Tensor:
        """As `Peer.theta`."""
        return torch.cat([t.reshape(self.stack, -1) for t in tree_leaves(self.now[0])], dim=-1)


class Jax(Functional):
    """The compiled way: jit around a scan over meta-iterations."""

    def begin(self) -> None:
        """Convert parameters and points to jax, and prepare the function that it compiles."""
        import jax
        from jax import numpy as jnp

        # Or a check in float64 would be one in float32; float32 stays float32.
        jax.config.update("jax_enable_x64", True)
        library = Library(
            jnp,
            jax.grad,
            jax.vmap,
            jax.tree.map,
            lambda a, b: jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a), b),
            lambda slope, at, v: jax.jvp(slope, (at,), (v,))[1],
            jax.nn.softmax,
        )
        batched = self.stacked(self.meta_iteration(library), library)

        def steps(state: Any, data: Any, places: Any, numbers: Any) -> Any:
            def body(state: Any, now: Any) -> Any:
                place, of_step = now
                return batched(state, of_step, jax.tree.map(lambda a: a[place], data)), None

            return jax.lax.scan(body, state, (places, numbers))[0]

        def handed(tree: Any) -> Any:
            return tree_map(lambda t: jnp.asarray(t.numpy()), tree)

        self.now, self.data = handed(self.alone(self.state())), handed(self.points())
        self.steps, self.ready = jax.jit(steps), jax.block_until_ready

    def advance(self, count: int) -> None:
        """Do the meta-iterations in one scan."""
        numbers, places = zip(*((self.numbers(i), n) for i, n in self.at_next(count)), strict=True)
        real = np.float32 if self.start.dtype == torch.float32 else np.float64
        columns = tuple(np.array(column, real) for column in zip(*numbers, strict=True))
        self.now = self.ready(self.steps(self.now, self.data, np.array(places), columns))

    @property
    def theta(self) -> Tensor:
        """As `Peer.theta`."""
        leaves = [torch.from_numpy(np.array(t)) for t in tree_leaves(self.now[0])]
        return torch.cat([t.reshape(self.stack, -1) for t in leaves], dim=-1)


EQUAL_WORK = "metabench at equal work "
"""What the names of `EqualWork` begin with; the engine follows."""


def peers_of(algorithm: str) -> dict[str, tuple[int, ...]]:
    """Return the stacks of each peer that implements an algorithm."""
    return {
        name: stacks
        for name, (peer, stacks) in PEERS.items()
        if peer is not Loop or hasattr(Loop, algorithm)
    }


PEERS: dict[str, tuple[type[Peer], tuple[int, ...]]] = {
    "pytorch loop": (Loop, (1,)),
    "torch.func": (TorchFunc, (1, STACK)),
    "jax": (Jax, (1, STACK)),
}
"""Each peer and its stacks: of those that can stack, the better one counts."""


def check(peer: Peer) -> float:
    """Compare a fresh peer with metabench, under each engine, after some meta-iterations.

    Returns:
        The largest deviation of a run's parameters, relative to the distance they moved.

    Raises:
        Disagreement: It is more than `TOLERANCE`.
    """
    settings = _quick(peer.settings, CHECKED)
    seeds, dtype = tuple(range(peer.stack)), peer.start.dtype
    peer.advance(CHECKED)
    theta, distances = peer.theta, []
    for name in engines():
        with using(name):
            ours = _at_first_validation(settings, seeds, dtype)
        distances.append(
            float(((theta - ours).norm(dim=-1) / (ours - peer.start).norm(dim=-1)).max())
        )
        if not distances[-1] <= TOLERANCE[dtype]:
            raise Disagreement(
                f"after {CHECKED} meta-iterations of {peer.algorithm} its theta is "
                f"{distances[-1]:.1e} of the way from that of metabench {name}, more than "
                f"{TOLERANCE[dtype]:g} in {dtype}"
            )
    return max(distances)


class _Reached(Exception):
    """Training has reached the requested point, which is its argument."""


def _at_first_validation(
    settings: TrainSettings, seeds: tuple[int, ...], dtype: torch.dtype
) -> Tensor:
    """Return theta after the first interval of a training, whose schedule is that of the whole."""

    def stop(state: training.State) -> None:
        raise _Reached(state.theta)

    try:
        algorithm = algorithms.load(settings.algorithm)
        training.train(settings, seeds, algorithm, after_interval=stop, dtype=dtype)
    except _Reached as reached:
        return reached.args[0]
    raise AssertionError("the training is shorter than an interval")


def make(name: str, settings: TrainSettings, stack: int) -> Floor | Job | Peer:
    """Return a subject by its name; a peer only after it was compared with metabench.

    The comparison uses the returned object itself, and in float64 one of the same kind with one
    run.
    """
    if name.startswith("floor "):
        return Floor(settings, name.removeprefix("floor "))
    if name.startswith(EQUAL_WORK):
        return EqualWork(settings, stack, name.removeprefix(EQUAL_WORK))
    if name not in PEERS:
        return Job(settings, stack, name.removeprefix("metabench "))
    peer = PEERS[name][0](settings, stack)
    peer.description = {"distance in float32": check(peer)}
    if stack == 1:
        peer.description["distance in float64"] = check(
            PEERS[name][0](settings, stack, torch.float64)
        )
    return peer
