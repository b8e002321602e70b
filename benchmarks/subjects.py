"""What is measured: a floor of arithmetic, metabench's own training job, and peers that do the same
meta-iterations.

A subject is called again and again; each call does `iterations` meta-iterations, those of each run
counted.

The job is the real one: random draws, outer update, validation and a checkpoint each interval.
Peers begin with the same weights (`Algorithm.begin`) and see the same points (`Algorithm.sample`),
drawn and rounded beforehand; they validate nothing and keep nothing. That favours them. Each is
held against metabench before it is timed.
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from metabench.learning import algorithms, engine, training
from metabench.learning.network import Network
from metabench.learning.randomness import BLOCK
from metabench.learning.settings import TrainSettings
from metabench.learning.tasks import Points, TaskStream
from metabench.records import artifacts, states
from metabench.study import config
from metabench.study.jobs import Study

STUDY = Study(config.load(Path(__file__).parents[1] / "config" / "flux.yaml"))
STACK = 10
CHECKED = 100
"""Meta-iterations after which a peer must be where metabench is."""

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11}
"""How far it may be away, relative to how far the parameters have moved; a step size off by 1% is
off by 1e-2.
"""


class Disagreement(ValueError):
    """A peer does not compute what metabench computes."""


def workloads(study: Study = STUDY) -> dict[str, TrainSettings]:
    """Return the settings of the published cell of each algorithm of a study that trains."""
    cells = [cell for cell in study.cells if cell.role == "published" and cell.meta_iterations]
    return {cell.algorithm: study.train_settings(cell) for cell in cells}


def read(content: Mapping[str, Any]) -> TrainSettings:
    """Return the settings of a training job from what JSON says of them."""
    given = dict(content)
    model = algorithms.load(given["algorithm"]).hyperparameters
    h = model.model_validate(given.pop("hyperparameters"))
    return TrainSettings(hyperparameters=h, **given)


def flops(settings: TrainSettings) -> int:
    """Count the floating-point operations of the matrix products of one meta-iteration of one run.

    Activations, biases and updates count nothing.
    """
    algorithm = algorithms.load(settings.algorithm)
    cost = algorithm.cost(settings.hyperparameters, settings.tasks)
    return settings.shape.operations * cost.point_gradients


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
    """The time of nothing but the arithmetic, at the rate of a library's best matrix product in
    float32.
    """

    SIZES = (256, 512, 1024)

    def __init__(self, settings: TrainSettings, library: str) -> None:
        rates = {size: self._rate(PRODUCTS[library](size), size) for size in self.SIZES}
        size = max(rates, key=rates.__getitem__)
        self.product, self.repeats = PRODUCTS[library](size), (max(self.SIZES) // size) ** 3
        self.iterations = (
            2 * max(self.SIZES) ** 3 / flops(settings)
        )  # whichever size each worker finds best
        self.about = {"size": size, "GFLOP/s": rates[size] / 1e9}

    @staticmethod
    def _rate(product: Callable[[], object], size: int) -> float:
        """Return operations a second, the best of some products; the first ones warm up."""
        seconds = []
        for _ in range(12):
            start = time.perf_counter()
            product()
            seconds.append(time.perf_counter() - start)
        return 2 * size**3 / min(seconds)

    def __call__(self) -> None:
        """Multiply as often as makes up one product of the largest size."""
        for _ in range(self.repeats):
            self.product()


def engines() -> tuple[str, ...]:
    """Return the names of the engines that metabench can compute with here, its own choice first."""
    return engine.NAMES if engine.library() else ("torch",)


@contextmanager
def using(name: str) -> Iterator[None]:
    """Compute with an engine within the body: THE place that knows how one is chosen."""
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
    """Metabench's training job, an interval of validation a call."""

    def __init__(self, settings: TrainSettings, stack: int, engine: str) -> None:
        self.settings, self.seeds, self.engine = settings, tuple(range(stack)), engine
        self.algorithm = algorithms.load(settings.algorithm)
        self.interval = settings.validation.interval
        self.iterations = self.interval * stack
        self.state: training.State | None = None
        self.about: dict[str, Any] = {}

    def __call__(self) -> None:
        """Go on from where the last call ended."""
        done = self.state.meta_iteration if self.state else 0
        settings = self.settings.model_copy(update={"meta_iterations": done + self.interval})
        with tempfile.TemporaryDirectory() as folder, using(self.engine):

            def checkpoint(state: training.State) -> None:
                path = Path(folder) / "checkpoint.safetensors"
                artifacts.write(path, states.from_state(state), {})

            self.state = training.train(
                settings, self.seeds, self.algorithm, self.state, checkpoint
            )


class Peer(ABC):
    """Somebody else's way to do the meta-iterations of a stack of runs.

    Args:
        settings: Of the job.
        stack: How many runs, of the seeds 0, 1, ...
        dtype: Of all arithmetic.
    """

    def __init__(
        self, settings: TrainSettings, stack: int, dtype: torch.dtype = torch.float32
    ) -> None:
        self.settings, self.stack, self.done = settings, stack, 0
        self.algorithm: str = settings.algorithm
        self.h: Any = settings.hyperparameters
        self.network = settings.shape
        algorithm, seeds = algorithms.load(settings.algorithm), tuple(range(stack))
        self.start = training.begin(algorithm, self.network, seeds, self.h, dtype).theta
        self.data = _points(settings, stack, dtype)
        self.iterations = CHECKED * stack
        self.about: dict[str, Any] = {}
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Bring parameters and points to the form that they have from then on."""

    @abstractmethod
    def advance(self, count: int) -> None:
        """Do some meta-iterations more."""

    @property
    @abstractmethod
    def theta(self) -> Tensor:
        """Where the parameters are, ``(run, P)`` as in `Network`."""

    def __call__(self) -> None:
        """Do as many meta-iterations as were checked."""
        self.advance(CHECKED)

    def at_next(self, count: int) -> Iterator[int]:
        """Yield where the points of the next meta-iterations are; after the last block's end, its
        beginning.
        """
        for i in range(self.done, self.done + count):
            yield i % BLOCK
        self.done += count


def _points(settings: TrainSettings, stack: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Return the first block of an algorithm's points, x and y ``(iteration, run, task, [step,]
    point, 1)``.
    """
    h: Any = settings.hyperparameters
    stream = TaskStream(settings.tasks, tuple(range(stack)), h.meta_batch_size)
    batch = algorithms.load(settings.algorithm).sample(stream.block(0), h)
    if settings.algorithm == "reptile":  # its steps come before its runs
        batch = tuple(Points(p.x.movedim(1, 3), p.y.movedim(1, 3)) for p in batch)
    if settings.algorithm == "joint":  # it puts the points of all tasks together
        tasks = h.meta_batch_size, h.shots
        batch = tuple(Points(p.x.unflatten(2, tasks), p.y.unflatten(2, tasks)) for p in batch)
    pairs = [
        (p.x if p.x.dim() == p.y.dim() else p.x[:, None, None], p.y) for p in batch
    ]  # fomaml's grid is one for all
    return [(x.expand_as(y).to(dtype).contiguous(), y.to(dtype).contiguous()) for x, y in pairs]


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
    """What most people would write from the paper: a module, autograd, torch.optim.SGD, one run
    after another.
    """

    def begin(self) -> None:
        """Make a module for each run."""
        self.models = [module_of(self.network, theta) for theta in self.start]
        self.step: Callable[..., None] = getattr(self, self.algorithm)

    def advance(self, count: int) -> None:
        """Loop over meta-iterations and runs."""
        for i in self.at_next(count):
            for run, model in enumerate(self.models):
                self.step(model, *((x[i, run], y[i, run]) for x, y in self.data))

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


def functional_step(
    algorithm: str, h: Any, gradient: Any, vmap: Any, tree_map: Any
) -> Callable[..., Any]:
    """Return one run's meta-iteration, from a tree of parameters and points ``(task, ...)`` to a
    tree of parameters.

    torch.func and jax have the same words: both peers are made from this text.

    Args:
        algorithm: Name of the algorithm.
        h: Its hyperparameters.
        gradient: From parameters, x and y of one task to the gradient of its mean squared error.
        vmap: Of the library.
        tree_map: Likewise.
    """

    def descend(theta: Any, slope: Any, step_size: float) -> Any:
        return tree_map(lambda p, g: p - step_size * g, theta, slope)

    def fomaml(theta: Any, support: Any, query: Any) -> Any:
        def task(support: Any, query: Any) -> Any:
            phi = theta
            for _ in range(h.inner_steps):
                phi = descend(phi, gradient(phi, *support), h.inner_step_size)
            return gradient(phi, *query)

        return descend(
            theta, tree_map(lambda g: g.sum(0), vmap(task)(support, query)), h.meta_step_size
        )

    def reptile(theta: Any, points: Any) -> Any:
        def task(x: Any, y: Any) -> Any:
            phi = theta
            for k in range(h.inner_steps):
                phi = descend(phi, gradient(phi, x[k], y[k]), h.inner_step_size)
            return phi

        return tree_map(
            lambda p, phi: p + h.meta_step_size * (phi.mean(0) - p), theta, vmap(task)(*points)
        )

    def joint(theta: Any, points: Any) -> Any:
        slopes = vmap(lambda x, y: gradient(theta, x, y))(*points)
        return descend(theta, tree_map(lambda g: g.mean(0), slopes), h.meta_step_size)

    return {"fomaml": fomaml, "reptile": reptile, "joint": joint}[algorithm]


class TorchFunc(Peer):
    """The functional way of PyTorch: functional_call and grad, vmap over tasks and, in a stack,
    over runs.
    """

    def begin(self) -> None:
        """Make a tree of parameters of a module's."""
        models = [dict(module_of(self.network, theta).named_parameters()) for theta in self.start]
        self.tree = {name: torch.stack([m[name].detach() for m in models]) for name in models[0]}
        model = module_of(self.network, self.start[0])

        def loss(parameters: Any, x: Tensor, y: Tensor) -> Tensor:
            return nn.functional.mse_loss(torch.func.functional_call(model, parameters, (x,)), y)

        step = functional_step(
            self.algorithm, self.h, torch.func.grad(loss), torch.func.vmap, tree_map
        )
        self.step = step if self.stack == 1 else torch.func.vmap(step)
        if self.stack == 1:
            self.tree, self.data = (
                tree_map(lambda t: t[0], self.tree),
                tree_map(lambda t: t[:, 0], self.data),
            )

    def advance(self, count: int) -> None:
        """Loop over meta-iterations."""
        for i in self.at_next(count):
            self.tree = self.step(self.tree, *((x[i], y[i]) for x, y in self.data))

    @property
    def theta(self) -> Tensor:
        """As `Peer.theta`."""
        trees = (
            [self.tree]
            if self.stack == 1
            else [tree_map(lambda t, r=r: t[r], self.tree) for r in range(self.stack)]
        )
        return torch.stack([_vector(list(tree.values())) for tree in trees])


class Jax(Peer):
    """The compiled way: jit around a scan over meta-iterations, vmap over tasks and, in a stack,
    over runs.
    """

    def begin(self) -> None:
        """Hand parameters and points to jax, and make what it compiles at the first call."""
        import jax
        from jax import numpy as jnp

        jax.config.update(
            "jax_enable_x64", True
        )  # or a check in float64 would be one in float32; float32 stays float32
        activation = {"tanh": jnp.tanh, "relu": jax.nn.relu}[self.network.activation]

        def loss(layers: Any, x: Any, y: Any) -> Any:
            *hidden, (weight, bias) = layers
            for w, b in hidden:
                x = activation(x @ w + b)
            return ((x @ weight + bias - y) ** 2).mean()

        step = functional_step(self.algorithm, self.h, jax.grad(loss), jax.vmap, jax.tree.map)
        batched = step if self.stack == 1 else jax.vmap(step)

        def steps(tree: Any, data: Any, places: Any) -> Any:
            def body(tree: Any, i: Any) -> Any:
                return batched(tree, *jax.tree.map(lambda a: a[i], data)), None

            return jax.lax.scan(body, tree, places)[0]

        layers, pick = self.network.layers(self.start), self.stack == 1
        self.tree = [
            tuple(jnp.asarray((t[0] if pick else t).numpy()) for t in layer) for layer in layers
        ]
        self.points = [
            tuple(jnp.asarray((t[:, 0] if pick else t).numpy()) for t in pair) for pair in self.data
        ]
        self.steps, self.array, self.ready = jax.jit(steps), jnp.array, jax.block_until_ready

    def advance(self, count: int) -> None:
        """Do them in one scan."""
        self.tree = self.ready(
            self.steps(self.tree, self.points, self.array(list(self.at_next(count))))
        )

    @property
    def theta(self) -> Tensor:
        """As `Peer.theta`."""
        pieces = [torch.from_numpy(p.__array__().copy()) for layer in self.tree for p in layer]
        return torch.cat([p.reshape(self.stack, -1) for p in pieces], dim=-1)


PEERS: dict[str, tuple[type[Peer], tuple[int, ...]]] = {
    "pytorch loop": (Loop, (1,)),
    "torch.func": (TorchFunc, (1, STACK)),
    "jax": (Jax, (1, STACK)),
}
"""Each peer and its stacks: of those that can stack, the better one counts."""


def check(peer: Peer) -> float:
    """Hold a peer that has not done anything yet against metabench, each of its engines, after some
    meta-iterations.

    Returns:
        The largest distance of a run's parameters, relative to how far they moved.

    Raises:
        Disagreement: It is more than `TOLERANCE`.
    """
    quick = peer.settings.validation.model_copy(update={"tasks": 2})
    brief = {"meta_iterations": CHECKED, "validation": quick}
    settings = peer.settings.model_copy(update=brief)
    seeds, dtype = tuple(range(peer.stack)), peer.start.dtype
    peer.advance(CHECKED)
    theta, distances = peer.theta, []
    for name in engines():
        with using(name):
            ours = training.train(
                settings, seeds, algorithms.load(peer.algorithm), dtype=dtype
            ).theta
        distances.append(
            float(((theta - ours).norm(dim=-1) / (ours - peer.start).norm(dim=-1)).max())
        )
        if not distances[-1] <= TOLERANCE[dtype]:
            raise Disagreement(
                f"after {CHECKED} meta-iterations of {peer.algorithm} its theta is {distances[-1]:.1e} of the way "
                f"from that of metabench {name}, more than {TOLERANCE[dtype]:g} in {dtype}"
            )
    return max(distances)


def make(name: str, settings: TrainSettings, stack: int) -> Floor | Job | Peer:
    """Return a subject by its name; a peer only after it was held against metabench.

    That is done with the very object that is returned, and in float64 with one of the same kind, of
    one run.
    """
    if name.startswith("floor "):
        return Floor(settings, name.removeprefix("floor "))
    if name not in PEERS:
        return Job(settings, stack, name.removeprefix("metabench "))
    peer = PEERS[name][0](settings, stack)
    peer.about = {"distance in float32": check(peer)}
    if stack == 1:
        peer.about["distance in float64"] = check(PEERS[name][0](settings, stack, torch.float64))
    return peer
