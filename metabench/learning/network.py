"""Multilayer perceptrons as flat vectors: theta ``(..., P)``.

The leading axes are a stack of independent networks.

    h_0 = x,    z_l = h_{l-1} W_l + b_l,    h_l = activation(z_l),    prediction = z_L

A stack is one tensor program: a batched matrix product a layer, and a backward pass written by
hand, since the networks of a stack do not interact. `Network.predict`, `loss_and_gradient`,
`summed_gradient`, `hessian_product`, `descend` and `predict_along` are the one seam: behind it goes
the fused engine (`metabench.learning.engine`) where there is one, and what stands here is the
reference and the fallback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from metabench.learning.engine import fused
from metabench.learning.optimizers import descended
from metabench.learning.randomness import normals, uniforms


class Activation(NamedTuple):
    """A nonlinearity, its backward pass and how that changes, both of which need the output only."""

    forward: Callable[[Tensor], Tensor]
    """h = activation(z)."""
    backward: Callable[[Tensor, Tensor], Tensor]
    """dL/dz = f' dL/dh from dL/dh and h."""
    curvature: Callable[[Tensor, Tensor, Tensor], Tensor]
    """R{f'} dL/dh from dL/dh, h and its change R{h}."""


def _tanh_backward(gradient: Tensor, h: Tensor) -> Tensor:
    return gradient.addcmul_(gradient * h, h, value=-1)  # dL/dh (1 - h^2)


def _tanh_curvature(gradient: Tensor, h: Tensor, change: Tensor) -> Tensor:
    return (gradient * h).mul_(change).mul_(-2)  # R{1 - h^2} = -2 h R{h}


def _relu_backward(gradient: Tensor, h: Tensor) -> Tensor:
    return gradient.mul_(h > 0)


def _relu_curvature(gradient: Tensor, h: Tensor, change: Tensor) -> Tensor:
    return torch.zeros_like(gradient)


ACTIVATIONS = {
    "tanh": Activation(torch.tanh_, _tanh_backward, _tanh_curvature),
    "relu": Activation(torch.relu_, _relu_backward, _relu_curvature),
}


@dataclass(frozen=True)
class Network:
    """The shape of a fully connected network with a linear output layer.

    The flat vector holds, layer by layer, the weights ``(fan_in, fan_out)`` and then the biases
    ``(fan_out,)``.

    Args:
        widths: Features of the input, of each hidden layer, and of the output.
        activation: A key of `ACTIVATIONS`.
        initialization: How weights begin, ``uniform`` or ``normal``: see `initialize`.

    Example:
        >>> Network((1, 64, 64, 1), "tanh").parameters
        4353
    """

    widths: tuple[int, ...]
    activation: str = "tanh"
    initialization: str = "uniform"

    @property
    def parameters(self) -> int:
        """P, the length of the flat vector."""
        return sum(self._sizes)

    @property
    def operations(self) -> int:
        """Floating-point operations of the matrix products of a gradient, a point.

        A layer of n by m costs 2nm on the way forward, as much for the gradient of its weights, and
        as much to hand the gradient on to the layer before, which the first has not.
        """
        products = [n * m for n, m in pairwise(self.widths)]
        return 6 * sum(products) - 2 * products[0]

    @cached_property
    def _shapes(self) -> list[tuple[int, int]]:
        """Shapes of W_1, b_1, W_2, b_2, ... in the order of the flat vector."""
        return [shape for n, m in pairwise(self.widths) for shape in ((n, m), (1, m))]

    @cached_property
    def _sizes(self) -> list[int]:
        """How many numbers each of them has."""
        return [prod(shape) for shape in self._shapes]

    @cached_property
    def layer_sizes(self) -> list[int]:
        """How many parameters each layer has, weights and biases together."""
        return [n + m for n, m in zip(self._sizes[::2], self._sizes[1::2], strict=True)]

    @cached_property
    def layer_of_parameter(self) -> Tensor:
        """Number of the layer of each parameter, ``(P,)``."""
        return torch.arange(len(self.layer_sizes)).repeat_interleave(torch.tensor(self.layer_sizes))

    @property
    def head(self) -> Tensor:
        """Which parameters are those of the output layer, ``(P,)`` bool."""
        return self.layer_of_parameter == len(self.layer_sizes) - 1

    @property
    def first_bias(self) -> slice:
        """Where the biases of the first layer lie in the flat vector."""
        return slice(self._sizes[0], sum(self._sizes[:2]))

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """View a stack of flat vectors as layers.

        Args:
            theta: ``(..., P)``.

        Returns:
            A pair for each layer: weights ``(..., fan_in, fan_out)`` and biases ``(..., 1,
            fan_out)``; views of theta.
        """
        stack, pieces = theta.shape[:-1], theta.split(self._sizes, dim=-1)
        views = [p.view(*stack, *shape) for p, shape in zip(pieces, self._shapes, strict=True)]
        return list(zip(views[::2], views[1::2], strict=True))

    def initialize(self, seed: int, part: int = 0) -> Tensor:
        """Draw the initial weights of one training seed.

        ``uniform``: all of a layer on +-1/sqrt(fan_in), biases too, the default of
        ``torch.nn.Linear`` and of the Flux script. ``normal``: weights normal with a standard
        deviation of 0.01, cut off at two of them, and biases 0, as in the code of the MAML paper.

        Args:
            seed: The training seed.
            part: Which of the networks of an algorithm that has several.

        Returns:
            theta, ``(P,)``, float64: the same for every algorithm and cell.
        """
        unit = uniforms(seed, "init", part, self.parameters)
        if self.initialization == "normal":
            deviations = [
                0.01 * is_weight
                for n, m in pairwise(self.widths)
                for is_weight in [1] * n * m + [0] * m
            ]
            return torch.from_numpy(normals(unit, cut=2.0)) * torch.tensor(
                deviations, dtype=torch.float64
            )
        bounds = [1 / sqrt(n) for n, m in pairwise(self.widths) for _ in range((n + 1) * m)]
        return (2 * torch.from_numpy(unit) - 1) * torch.tensor(bounds, dtype=torch.float64)

    def predict(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate a stack of networks.

        Args:
            theta: ``(..., P)``.
            x: ``(..., point, feature)`` with the same leading axes, or axes that broadcast to them.

        Returns:
            Predictions, ``(..., point, 1)``.
        """
        if kernel := self._kernel(theta, x):
            return kernel.predict(theta, x)
        stack, (theta, x) = _flat_stack(theta, x)
        return _unflat(self._activations(self.layers(theta), x)[-1], stack)

    def features(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the activations of the last hidden layer, ``(..., point, width)``.

        Arguments are those of `predict`.
        """
        stack, (theta, x) = _flat_stack(theta, x)
        return _unflat(self._activations(self.layers(theta), x)[-2], stack)

    def _activations(self, layers: list[tuple[Tensor, Tensor]], x: Tensor) -> list[Tensor]:
        """Return h_0 .. h_L of the layers of ``(stack,)`` networks at ``(stack, point, feature)``."""
        forward = ACTIVATIONS[self.activation].forward
        hidden = [x]
        for weight, bias in layers:
            if len(hidden) > 1:
                forward(hidden[-1])  # in place
            hidden.append(_affine(hidden[-1], weight, bias))
        return hidden

    def loss(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean squared error of each network of a stack, ``(...,)``.

        Arguments are those of `loss_and_gradient`.
        """
        return (self.predict(theta, x) - y).square_().mean((-2, -1))

    def loss_and_gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return each network's mean squared error and its gradient.

            L = mean_points (prediction - y)^2

        Args:
            theta: ``(..., P)``.
            x: ``(..., point, feature)``, leading axes as theta's or broadcasting to them.
            y: ``(..., point, 1)``, likewise.

        Returns:
            Losses ``(...,)`` and gradients ``(..., P)``.
        """
        if kernel := self._kernel(theta, x, y):
            return kernel.loss_and_gradient(theta, x, y)
        stack, (theta, x, y) = _flat_stack(theta, x, y)
        backward = ACTIVATIONS[self.activation].backward
        layers = self.layers(theta)
        *hidden, prediction = self._activations(layers, x)
        residual = prediction.sub_(y)
        loss = residual.square().mean((-2, -1))
        delta = residual.mul_(2 / residual.shape[-2:].numel())  # dL/dz of the last layer
        pieces: list[Tensor] = []
        for h, (weight, _) in zip(reversed(hidden), reversed(layers), strict=True):
            pieces[:0] = (torch.bmm(h.transpose(1, 2), delta).flatten(1), delta.sum(1))
            if len(pieces) < len(self._shapes):
                delta = backward(_times_transpose(delta, weight), h)
        gradient = torch.cat(pieces, dim=-1)
        return _unflat(loss, stack), _unflat(gradient, stack)

    def summed_gradient(
        self, theta: Tensor, x: Tensor, y: Tensor, after: fused.Descent | None = None
    ) -> Tensor:
        """Return the gradients of `loss_and_gradient` added up along the last axis of the stack.

            sum_t grad L(phi_t; x_t, y_t),    phi_t = theta_t, or what it descends to

        Args:
            theta: ``(..., task, P)``. Not changed.
            x: ``(..., task, point, feature)`` or axes that broadcast to it.
            y: ``(..., task, point, 1)``, likewise.
            after: x, y and step_size of `descend`, whose steps come before.

        Returns:
            ``(..., P)``.
        """
        if kernel := self._kernel(theta, x, y, *(after or ())):
            return kernel.summed_gradient(theta, x, y, after)
        phi = theta if after is None else self.descend(theta, *after)
        return self.loss_and_gradient(phi, x, y)[1].sum(-2)

    def hessian_product(self, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of each network's mean squared error times a vector.

            H v = R{grad L(theta; x, y)},    R{.} = d/dr (.) of theta + r v at r = 0

        R{.} differentiates both passes of `loss_and_gradient` line by line; v has V_l and v_l for
        W_l and b_l, g_l is dL/dh_l and delta_l is dL/dz_l:

            R{h_0} = 0,    R{z_l} = R{h_{l-1}} W_l + h_{l-1} V_l + v_l,    R{h_l} = f'(z_l) R{z_l}
            R{g_{l-1}} = R{delta_l} W_l^T + delta_l V_l^T,    R{delta_l} = f'(z_l) R{g_l} +
            R{f'(z_l)} g_l
            R{dL/dW_l} = R{h_{l-1}}^T delta_l + h_{l-1}^T R{delta_l},    R{dL/db_l} = sum_points
            R{delta_l}

        Args:
            theta: ``(..., P)``.
            x: ``(..., point, feature)``, leading axes as theta's or broadcasting to them.
            y: ``(..., point, 1)``, likewise.
            v: ``(..., P)``, likewise.

        Returns:
            ``(..., P)``.

        Reference: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
        """
        if kernel := self._kernel(theta, x, y, v):
            return kernel.hessian_product(theta, x, y, v)
        stack, (theta, x, y, v) = _flat_stack(theta, x, y, v.unsqueeze(-2))
        _, backward, curvature = ACTIVATIONS[self.activation]
        layers, directions = self.layers(theta), self.layers(v.squeeze(1))
        *hidden, prediction = self._activations(layers, x)
        changes = [torch.zeros_like(x)]  # R{h_0} .. R{h_L}
        for h, (weight, _), along in zip(hidden, layers, directions, strict=True):
            if len(changes) > 1:
                backward(changes[-1], h)  # in place
            changes.append(_affine(changes[-1], weight, _affine(h, *along)))
        scale = 2 / prediction.shape[-2:].numel()
        delta, change = (
            prediction.sub_(y).mul_(scale),
            changes.pop().mul_(scale),
        )  # change is R{delta}
        pieces: list[Tensor] = []
        for h, h_change, (weight, _), (direction, _) in zip(
            reversed(hidden), reversed(changes), reversed(layers), reversed(directions), strict=True
        ):
            of_weight = torch.bmm(h_change.transpose(1, 2), delta).baddbmm_(
                h.transpose(1, 2), change
            )
            pieces[:0] = (of_weight.flatten(1), change.sum(1))
            if len(pieces) < len(self._shapes):
                gradient = _times_transpose(delta, weight)
                change = backward(
                    _times_transpose(change, weight).add_(_times_transpose(delta, direction)), h
                )
                change += curvature(gradient, h, h_change)
                delta = backward(gradient, h)
        return _unflat(torch.cat(pieces, dim=-1), stack)

    def descend(self, theta: Tensor, x: Tensor, y: Tensor, step_size: float | Tensor) -> Tensor:
        """Return the parameters after one gradient step on each of a sequence of batches.

            theta <- theta - step_size * grad L(theta; x_k, y_k),    k = 0, 1, ...

        Args:
            theta: ``(..., P)``. Not changed.
            x: ``(step, ..., point, feature)``, the axes between as theta's leading ones or
                broadcasting to them.
            y: ``(step, ..., point, 1)``, likewise.
            step_size: One number, or one for each network, ``(...,)``.

        Returns:
            The last parameters, ``(..., P)``.
        """
        if kernel := self._kernel(theta, x, y, step_size):
            return kernel.descend(theta, x, y, step_size)
        for phi in self._path(theta, x, y, step_size):
            theta = phi
        return theta

    def predict_along(
        self, theta: Tensor, x: Tensor, y: Tensor, step_size: float | Tensor, query: Tensor
    ) -> Tensor:
        """Return what the networks predict before the first step of `descend` and after each.

        Args:
            theta: As in `descend`, and so are x, y and step_size.
            x: The points of each step.
            y: Their labels.
            step_size: Of each step.
            query: Where to predict, ``(..., point, feature)``, leading axes as theta's or
                broadcasting to them.

        Returns:
            Predictions, ``(step + 1, ..., point, 1)``.
        """
        if kernel := self._kernel(theta, x, y, step_size, query):
            return kernel.predict_along(theta, x, y, step_size, query)
        return torch.stack([self.predict(phi, query) for phi in self._path(theta, x, y, step_size)])

    def _path(
        self, theta: Tensor, x: Tensor, y: Tensor, step_size: float | Tensor
    ) -> Iterator[Tensor]:
        """Yield theta and the parameters after each step."""
        yield theta
        for batch in zip(x, y, strict=True):
            _, gradient = self.loss_and_gradient(theta, *batch)
            theta = descended(theta, gradient, step_size)
            yield theta

    def _kernel(self, theta: Tensor, *others: float | Tensor) -> fused.Kernel | None:
        """Return the fused engine's kernel, or None for torch to compute.

        It covers less than torch does, and autograd cannot watch it.
        """
        if not fused.covers(theta) or theta.requires_grad:
            return None
        for other in others:
            if isinstance(other, Tensor) and other.requires_grad:
                return None
        return fused.kernel(self.widths, self.activation)


def _affine(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """h W + b; with one input feature an outer product, which needs no matrix product."""
    return torch.addcmul(bias, h, weight) if h.shape[-1] == 1 else torch.baddbmm(bias, h, weight)


def _times_transpose(delta: Tensor, weight: Tensor) -> Tensor:
    """delta W^T; with one output feature an outer product."""
    return (
        delta * weight.transpose(1, 2)
        if delta.shape[-1] == 1
        else torch.bmm(delta, weight.transpose(1, 2))
    )


def _flat_stack(theta: Tensor, *points: Tensor) -> tuple[torch.Size, list[Tensor]]:
    """Flatten the leading axes of parameters and points to one; return those axes and both.

    A single network is computed twice: torch gives a batch of one to another matrix product, which
    rounds otherwise.
    """
    stack = theta.shape[:-1]
    flat = [p.expand(*stack, *p.shape[-2:]).reshape(-1, *p.shape[-2:]) for p in points]
    flat = [theta.reshape(-1, theta.shape[-1]), *flat]
    return stack, [t.repeat(2, *[1] * (t.dim() - 1)) for t in flat] if stack.numel() == 1 else flat


def _unflat(result: Tensor, stack: torch.Size) -> Tensor:
    """Undo `_flat_stack` for a result."""
    return result[: stack.numel()].reshape((*stack, *result.shape[1:]))
