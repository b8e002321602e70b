"""An algorithm from a `torch.nn.Module` and a loop over tasks.

A run learns the parameters of its module as one flat vector, in the order of `named_parameters`.
Parameters without `requires_grad`, and buffers, are not learned. They are the same in all runs.

A module draws its numbers from torch's global generator. Here it draws them from the stream of a
key, in the order in which it asks for them. So a run begins with what its module's own constructor
gives it, and depends on its seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from metabench.learning.algorithm import Adaptation, Algorithm, Batch, Cost, Question
from metabench.learning.autograd import gradient_of
from metabench.learning.hyperparameters import InnerLoop
from metabench.learning.network import Network
from metabench.learning.randomness import normals, uniforms
from metabench.learning.tasks import Points, TaskBlock, TaskDistribution

Parameters = dict[str, Tensor]
"""The parameters of a module by name, as `torch.func.functional_call` takes them."""

Adapt = Callable[[nn.Module, Parameters, Tensor, Tensor, Any], Parameters]
MetaLoss = Callable[[nn.Module, Parameters, list[tuple[Tensor, ...]], Any], Tensor]


def from_module(
    hyperparameters: type[InnerLoop],
    cost: Callable[[Any, TaskDistribution], Cost],
    sample: Callable[[TaskBlock, Any], Batch],
    make_module: Callable[[Network], nn.Module],
    adapt: Adapt,
    meta_loss: MetaLoss,
    begin: Callable[[Network, tuple[int, ...], Any], Tensor] | None = None,
) -> Algorithm:
    """Return the algorithm of a module and a loop over tasks.

    Args:
        hyperparameters: As in `Algorithm`.
        cost: As in `Algorithm`.
        sample: As in `Algorithm`.
        make_module: Returns the module for a network. Its input has ``network.widths[0]`` features
            and its output ``network.widths[-1]``.
        adapt: Returns the parameters after `h.inner_steps` steps of `h.inner_step_size` on one
            task, from module, parameters, x ``(shots, feature)``, y ``(shots, 1)`` and h.
            Evaluation calls it for one step after the other, with the step size of the protocol.
        meta_loss: Returns the loss of a meta-batch, from module, parameters, tasks and h. A task is
            a tuple of x and y of each set that `sample` returns.
        begin: As in `Algorithm`. By default, a run begins with the values that the module's
            constructor draws, from the numbers of the run's seed.
    """
    loop = _Loop(make_module, adapt, meta_loss)
    return Algorithm(
        hyperparameters,
        cost,
        sample,
        loop.meta_gradient,
        begin or loop.begin,
        Adaptation(loop.predict),
    )


@dataclass(frozen=True)
class _Loop:
    """The functions of an algorithm, from those of `from_module`."""

    make_module: Callable[[Network], nn.Module]
    adapt: Adapt
    meta_loss: MetaLoss

    def made(self, network: Network, key: int | str) -> nn.Module:
        """Return a module whose constructor draws from the stream of a key."""
        with _Addressed(key):
            return self.make_module(network)

    def begin(self, network: Network, seeds: tuple[int, ...], h: Any) -> Tensor:
        """Return what the constructor draws for each seed, ``(run, M)``, float64."""
        modules = [self.made(network, seed) for seed in seeds]
        return torch.stack([_flat(module).double() for module in modules])

    def meta_gradient(self, network: Network, theta: Tensor, batch: Batch, h: Any) -> Tensor:
        """Return the gradient of each run's meta-loss, ``(run, M)``."""
        module = self.made(network, "module").to(theta.dtype)
        # All tasks may share the x of a set.
        parts = [part for x, y in batch for part in (x.expand(*y.shape[:-1], -1), y)]
        found = [
            self._gradient(module, flat, list(zip(*of_run, strict=True)), h)
            for flat, *of_run in zip(theta, *parts, strict=True)
        ]
        return torch.stack(found)

    def _gradient(
        self, module: nn.Module, flat: Tensor, tasks: list[tuple[Tensor, ...]], h: Any
    ) -> Tensor:
        """Return the gradient of one run's meta-loss, ``(M,)``."""
        return gradient_of(
            lambda values: self.meta_loss(module, _named(module, values), tasks, h), flat
        )

    def predict(self, network: Network, theta: Tensor, question: Question, h: Any) -> Tensor:
        """Adapt a stack of modules ``(..., M)``, one after the other, and predict."""
        if question.optimizer == "adam":
            raise ValueError(
                "a protocol asks for the optimizer adam, but a module's loop takes its own steps"
            )
        module, stack = self.made(network, "module").to(theta.dtype), theta.shape[:-1]
        size = question.step_size
        if size is None:
            size = torch.tensor(question.multiple * h.inner_step_size, dtype=theta.dtype)

        def each(values: Tensor) -> Tensor:
            return values.expand(*stack, *values.shape[-2:]).reshape(-1, *values.shape[-2:])

        support = question.batches.at(0)
        rows = zip(
            theta.detach().reshape(-1, theta.shape[-1]),
            size.expand(stack).flatten(),
            each(support.x),
            each(support.y),
            each(question.x),
            strict=True,
        )
        found = []
        for flat, step_size, x, y, at in rows:
            one_step = h.model_copy(update={"inner_step_size": step_size, "inner_steps": 1})
            path = self._path(module, flat, Points(x, y), one_step)
            found.append(_measured(module, path, at, question.measured))
        predictions = torch.stack(found, dim=1)
        return predictions.reshape(len(predictions), *stack, *predictions.shape[2:])

    def _path(
        self, module: nn.Module, flat: Tensor, support: Points, one_step: Any
    ) -> Iterator[Parameters]:
        """Yield the parameters of one module after 0, 1, 2, ... steps on one task."""
        parameters = _named(module, flat)
        while True:
            parameters = {k: v.detach().requires_grad_() for k, v in parameters.items()}
            yield parameters
            parameters = self.adapt(module, parameters, *support, one_step)


def _measured(
    module: nn.Module, path: Iterator[Parameters], at: Tensor, measured: list[int]
) -> Tensor:
    """Return predictions after some numbers of steps, ``(measured, point, 1)``."""
    numbered = zip(range(measured[-1] + 1), path, strict=False)
    chosen = [parameters for n, parameters in numbered if n in measured]
    return torch.stack([functional_call(module, p, at).detach() for p in chosen])


def _learned(module: nn.Module) -> Parameters:
    """Return the parameters of a module that are learned."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def _flat(module: nn.Module) -> Tensor:
    """Return what is learned of a module as one flat vector, ``(M,)``."""
    return torch.cat([value.detach().flatten() for value in _learned(module).values()])


def _named(module: nn.Module, flat: Tensor) -> Parameters:
    """Return a flat vector as the parameters of a module."""
    shapes = {name: value.shape for name, value in _learned(module).items()}
    parts = flat.split([shape.numel() for shape in shapes.values()])
    return {
        name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


class _Addressed(TorchDispatchMode):
    """Where torch would draw from its global generator, take the numbers of a key's stream."""

    def __init__(self, key: int | str) -> None:
        super().__init__()
        self.key, self.taken = key, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        random = torch.Tag.nondeterministic_seeded in func.tags
        if not random or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        name = func.name()
        if name not in DISTRIBUTIONS:
            raise ValueError(
                f"a module may draw its numbers by {', '.join(DISTRIBUTIONS)}, as all of "
                f"torch.nn.init but sparse_ do; got {name}"
            )
        if name.endswith("_"):
            target, *of_distribution = args
        else:
            target, of_distribution = torch.empty(*args, **kwargs), []
        values = DISTRIBUTIONS[name](self._take(target.numel()), *of_distribution)
        return target.copy_(torch.from_numpy(values).view(target.shape))

    def _take(self, count: int) -> NDArray[Any]:
        """Return the next uniform numbers of the stream."""
        start, self.taken = self.taken, self.taken + count
        return uniforms(self.key, "init", 0, self.taken)[start:]


def _uniform(unit: NDArray[Any], low: float = 0.0, high: float = 1.0) -> NDArray[Any]:
    return low + (high - low) * unit


def _normal(unit: NDArray[Any], mean: float = 0.0, deviation: float = 1.0) -> NDArray[Any]:
    return mean + deviation * normals(unit)


DISTRIBUTIONS: dict[str, Callable[..., NDArray[Any]]] = {
    "aten::uniform_": _uniform,
    "aten::normal_": _normal,
    "aten::rand": _uniform,
    "aten::randn": _normal,
}
"""The numbers of each operation that draws, from uniform numbers on [0, 1)."""
