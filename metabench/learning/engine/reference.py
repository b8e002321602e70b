"""The torch engine: what `Network` computes, as batched matrix products. Reference and fallback.

A stack of networks is one product a layer, and passes backward are written by hand, since the
networks of a stack do not interact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from metabench.learning.engine import context, heads
from metabench.learning.engine.heads import MetaBatch
from metabench.learning.shape import Shape
from metabench.learning.step_sizes import Descent, Size, Sizes, cut

Layers = list[tuple[Tensor, Tensor]]
"""Weights ``(stack, fan_in, fan_out)`` and biases ``(stack, 1, fan_out)`` of each layer."""


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


class Reference:
    """The torch engine for one network.

    Its methods are those of `metabench.learning.network.Network`.

    Args:
        network: The network.
    """

    def __init__(self, network: Shape) -> None:
        self.network, self.layers = network, network.layers
        self.function = ACTIVATIONS[network.activation]

    def predict(self, theta: Tensor, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Evaluate a stack of networks."""
        theta = theta if shift is None else self.shifted(theta, shift)
        stack, (theta, x) = _flat_stack(theta, x)
        return _unflat(self._activations(self.layers(theta), x)[-1], stack)

    def loss_and_gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return each network's loss and gradient."""
        stack, (theta, x, y) = _flat_stack(theta, x, y)
        layers = self.layers(theta)
        *hidden, prediction = self._activations(layers, x)
        residual = prediction.sub_(y)
        loss = residual.square().mean((-2, -1))
        delta = residual.mul_(2 / residual.shape[-2:].numel())  # dL/dz of the last layer
        gradient = torch.cat(self._backward(layers, hidden, delta), dim=-1)
        return _unflat(loss, stack), _unflat(gradient, stack)

    def summed_gradient(
        self, theta: Tensor, x: Tensor, y: Tensor, after: Descent | None = None
    ) -> Tensor:
        """Return the sum along the last axis of the stack of the gradients after some steps."""
        phi = theta if after is None else self.descend(theta, *after)
        return self.loss_and_gradient(phi, x, y)[1].sum(-2)

    def hessian_product(self, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of each network's loss times a vector, by R{.} of each line."""
        stack, (theta, x, y, v) = _flat_stack(theta, x, y, v.unsqueeze(-2))
        _, backward, curvature = self.function
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
            if len(pieces) < 2 * len(layers):
                gradient = _times_transpose(delta, weight)
                change = backward(
                    _times_transpose(change, weight).add_(_times_transpose(delta, direction)), h
                )
                change += curvature(gradient, h, h_change)
                delta = backward(gradient, h)
        return _unflat(torch.cat(pieces, dim=-1), stack)

    def hidden_layers(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the activations of all hidden layers, one after the other."""
        stack, (theta, x) = _flat_stack(theta, x)
        _, *hidden, _ = self._activations(self.layers(theta), x)
        return _unflat(torch.cat([h.flatten(1) for h in hidden], dim=-1), stack)

    def pulled_back(self, theta: Tensor, x: Tensor, hidden: Tensor, cotangent: Tensor) -> Tensor:
        """Return each network's gradient of sum(cotangent * last hidden layer)."""
        widths, points = self.network.widths[1:-1], x.shape[-2]
        pieces = hidden.split([points * width for width in widths], dim=-1)
        each = [p.unflatten(-1, (points, width)) for p, width in zip(pieces, widths, strict=True)]
        stack, (theta, x, cotangent, *each) = _flat_stack(theta, x, cotangent, *each)
        *layers, (weight, bias) = self.layers(theta)
        delta = self.function.backward(cotangent.clone(), each[-1])
        found = self._backward(layers, [x, *each[:-1]], delta)
        output = [torch.zeros_like(part).flatten(1) for part in (weight, bias)]
        return _unflat(torch.cat([*found, *output], dim=-1), stack)

    def shifted_gradient(
        self, theta: Tensor, shift: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of the gradients of shifted networks, and each one's along its shift."""
        _, gradient = self.loss_and_gradient(self.shifted(theta, shift), x, y)
        return gradient.sum(-2), gradient[..., self.network.first_bias]

    def gradient_along_shift(self, theta: Tensor, shift: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of each network's loss along its shift."""
        return self.shifted_gradient(theta, shift, x, y)[1]

    def descend(self, theta: Tensor, x: Tensor, y: Tensor, step_size: Size | Sizes) -> Tensor:
        """Return the parameters after a gradient step on each batch."""
        for _, phi in self._path(theta, x, y, step_size):
            theta = phi
        return theta

    def predict_along(self, theta: Tensor, descent: Descent, query: Tensor, every: bool) -> Tensor:
        """Return predictions before the first and after each gradient step, or after the last."""
        if not every:
            return self.predict(self.descend(theta, *descent), query)
        path = (phi for _, phi in self._path(theta, *descent))
        return torch.stack([self.predict(phi, query) for phi in (theta, *path)])

    def gradient_through(
        self, theta: Tensor, descent: Descent, x: Tensor, y: Tensor, every: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the sum of the gradients through a descent, for theta and for its step sizes."""
        batches_x, batches_y, step_size = descent
        gradients, after = zip(*self._path(theta, *descent), strict=True)
        steps, before = len(after), (theta, *after[:-1])
        weight, along = 1 / steps if every else 1.0, []
        v = torch.zeros_like(after[-1])
        for k in reversed(range(steps)):
            if every or k == steps - 1:
                v = v + weight * self.loss_and_gradient(after[k], x, y)[1]
            used = cut(gradients[k], step_size)
            along.append(-used * v)
            scaled = self.network.scaled(v, step_size, k).where(used == gradients[k], 0.0)
            v = v - self.hessian_product(before[k], batches_x[k], batches_y[k], scaled)
        if not isinstance(step_size, Sizes):
            return v.sum(-2), None
        by_step = torch.stack(along[::-1], dim=-3).sum(-2)  # (..., step, P)
        kinds, *_, length = step_size.values.shape
        found = by_step if kinds > 1 else by_step.sum(-2, keepdim=True)
        return v.sum(-2), found if length == v.shape[-1] else self._by_layer(found)

    def gradient_through_head(
        self, theta: Tensor, tasks: MetaBatch, step_size: float, steps: int
    ) -> Tensor:
        """Return the gradient of the query losses after each task's descent of the head."""
        return heads.gradient_through_head(self, theta, tasks, step_size, steps)

    def gradient_through_ridge(
        self, theta: Tensor, weight: Tensor, tasks: MetaBatch
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the query losses after each task's ridge regression."""
        return heads.gradient_through_ridge(self, theta, weight, tasks)

    def gradient_through_context(
        self, theta: Tensor, weight: Tensor, tasks: MetaBatch, step_size: float, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the query losses after each task's descent of its context."""
        return context.gradient_through_context(self, theta, weight, tasks, step_size, steps)

    def _activations(self, layers: Layers, x: Tensor) -> list[Tensor]:
        """Return h_0 .. h_L of the layers of ``(stack,)`` networks at ``(stack, point, feature)``."""
        hidden = [x]
        for weight, bias in layers:
            if len(hidden) > 1:
                self.function.forward(hidden[-1])  # in place
            hidden.append(_affine(hidden[-1], weight, bias))
        return hidden

    def _backward(self, layers: Layers, hidden: list[Tensor], delta: Tensor) -> list[Tensor]:
        """Return the gradients of some layers' parameters, ``(stack, n)`` each.

        Args:
            layers: The layers.
            hidden: What each of them takes in, h_0, h_1, ...
            delta: dL/dz of the last of them.
        """
        pieces: list[Tensor] = []
        for h, (weight, _) in zip(reversed(hidden), reversed(layers), strict=True):
            pieces[:0] = (torch.bmm(h.transpose(1, 2), delta).flatten(1), delta.sum(1))
            if len(pieces) < 2 * len(layers):
                delta = self.function.backward(_times_transpose(delta, weight), h)
        return pieces

    def _path(
        self, theta: Tensor, x: Tensor, y: Tensor, step_size: Size | Sizes
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the gradient of each step, and the parameters after it."""
        for k, batch in enumerate(zip(x, y, strict=True)):
            _, gradient = self.loss_and_gradient(theta, *batch)
            theta = self.network.stepped(theta, cut(gradient, step_size), step_size, k)
            yield gradient, theta

    def _by_layer(self, numbers: Tensor) -> Tensor:
        """Add up a number of each parameter ``(..., P)`` over each layer, ``(..., layer)``."""
        parts = numbers.split(self.network.layer_sizes, dim=-1)
        return torch.stack([part.sum(-1) for part in parts], dim=-1)

    def shifted(self, theta: Tensor, shift: Tensor) -> Tensor:
        """Add a shift to the biases of the first layer."""
        shifted = theta.clone(memory_format=torch.contiguous_format)
        shifted[..., self.network.first_bias] += shift
        return shifted


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
