"""The torch engine: the operations of `Network` as batched matrix products. Reference and fallback.

Each layer of a stack of networks is one batched product. Backward passes are written by hand: the
networks of a stack do not interact, so autograd's graph would only cost time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from metabench.learning import maps
from metabench.learning.engine import context, heads
from metabench.learning.engine.heads import MetaBatch
from metabench.learning.shape import Shape
from metabench.learning.step_sizes import (
    Descent,
    Maps,
    Pulled,
    Sizes,
    StepSize,
    Weights,
    clipped,
    pulled,
)

Layers = list[tuple[Tensor, Tensor]]
"""Weights ``(stack, fan_in, fan_out)`` and biases ``(stack, 1, fan_out)`` of each layer."""


class Activation(NamedTuple):
    """A nonlinearity, its backward pass and the derivative of that, in terms of the output h."""

    forward: Callable[[Tensor], Tensor]
    """h = activation(z)."""
    backward: Callable[[Tensor, Tensor], Tensor]
    """dL/dz = f' dL/dh from dL/dh and h."""
    curvature: Callable[[Tensor, Tensor, Tensor], Tensor]
    """R{f'} dL/dh from dL/dh, h and R{h}, the derivative of h along a direction."""


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
        """Return the gradients after a descent, summed along the last axis of the stack."""
        phi = theta if after is None else self.descend(theta, *after)
        return self.loss_and_gradient(phi, x, y)[1].sum(-2)

    def hessian_product(self, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of each network's loss times a vector.

        R{.} is the derivative along v. It is applied to each line of `loss_and_gradient`.

        Reference: Pearlmutter 1994, "Fast exact multiplication by the Hessian",
            doi:10.1162/neco.1994.6.1.147.
        """
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
        delta = prediction.sub_(y).mul_(scale)
        change = changes.pop().mul_(scale)  # R{delta}
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
        """Return the activations of all hidden layers, concatenated."""
        stack, (theta, x) = _flat_stack(theta, x)
        _, *hidden, _ = self._activations(self.layers(theta), x)
        return _unflat(torch.cat([h.flatten(1) for h in hidden], dim=-1), stack)

    def pulled_back(self, theta: Tensor, x: Tensor, hidden: Tensor, cotangent: Tensor) -> Tensor:
        """Return each network's gradient of sum(cotangent * last hidden layer)."""
        widths, points = self.network.widths[1:-1], x.shape[-2]
        pieces = hidden.split([points * width for width in widths], dim=-1)
        each = [p.unflatten(-1, (points, width)) for p, width in zip(pieces, widths, strict=True)]
        stack, (theta, x, cotangent, *each) = _flat_stack(theta, x, cotangent, *each)
        *layers, _ = self.layers(theta)
        delta = self.function.backward(cotangent.clone(), each[-1])
        found = self._backward(layers, [x, *each[:-1]], delta)
        return _unflat(torch.cat(found, dim=-1), stack)

    def shifted_gradient(
        self, theta: Tensor, shift: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the summed gradients of shifted networks, and each gradient along its shift."""
        _, gradient = self.loss_and_gradient(self.shifted(theta, shift), x, y)
        return gradient.sum(-2), gradient[..., self.network.first_bias]

    def gradient_along_shift(self, theta: Tensor, shift: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of each network's loss along its shift."""
        return self.shifted_gradient(theta, shift, x, y)[1]

    def descend(self, theta: Tensor, x: Tensor, y: Tensor, step_size: StepSize) -> Tensor:
        """Return the parameters after one gradient step on each batch."""
        for _, phi in self._path(theta, x, y, step_size):
            theta = phi
        return theta

    def predict_along(
        self, theta: Tensor, descent: Descent, query: Tensor, measured: Sequence[int]
    ) -> Tensor:
        """Return predictions after some numbers of gradient steps."""
        path = chain([theta], (phi for _, phi in self._path(theta, *descent)))
        return torch.stack(
            [self.predict(phi, query) for k, phi in enumerate(path) if k in measured]
        )

    def gradient_through(
        self,
        theta: Tensor,
        descent: Descent,
        x: Tensor,
        y: Tensor,
        weights: Weights,
        second_order: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the summed gradients through a descent, for theta and for step sizes or maps."""
        batches_x, batches_y, step_size = descent
        gradients, after = zip(*self._path(theta, *descent), strict=True)
        steps, before = len(after), (theta, *after[:-1])
        v, along = torch.zeros_like(after[-1]), []
        for k in reversed(range(steps)):
            if weight := weights.last if k == steps - 1 else weights.earlier:
                v = v + weight * self.loss_and_gradient(after[k], x, y)[1]
            of_size, of_gradient = self._through_step(gradients[k], v, step_size, k)
            along.append(of_size)
            if second_order:
                v = v - self.hessian_product(before[k], batches_x[k], batches_y[k], of_gradient)
        if isinstance(step_size, Maps):
            # One axis after the other: the order of a sum over both depends on the stack.
            return v.sum(-2), torch.stack(along).sum(0).sum(-2)
        if not isinstance(step_size, Sizes):
            return v.sum(-2), None
        by_step = torch.stack(along[::-1], dim=-3).sum(-2)  # (..., step, P)
        kinds, *_, length = step_size.values.shape
        found = by_step if kinds > 1 else by_step.sum(-2, keepdim=True)
        return v.sum(-2), found if length == v.shape[-1] else self._by_layer(found)

    def gradient_through_head(
        self, theta: Tensor, tasks: MetaBatch, step_size: float, steps: int
    ) -> Tensor:
        """Return the gradient of the query losses, where each task's head takes gradient steps."""
        return heads.gradient_through_head(self, theta, tasks, step_size, steps)

    def gradient_through_ridge(
        self, theta: Tensor, weight: Tensor, tasks: MetaBatch
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the query losses, where each task's head is fitted by ridge."""
        return heads.gradient_through_ridge(self, theta, weight, tasks)

    def gradient_through_context(
        self, theta: Tensor, weight: Tensor, tasks: MetaBatch, step_size: float, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the query losses, where each task's context takes steps."""
        return context.gradient_through_context(self, theta, weight, tasks, step_size, steps)

    def _activations(self, layers: Layers, x: Tensor) -> list[Tensor]:
        """Return h_0 .. h_L of ``(stack,)`` networks at points x ``(stack, point, feature)``."""
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
            hidden: The input of each layer: h_0, h_1, ...
            delta: dL/dz of the last layer.
        """
        pieces: list[Tensor] = []
        for h, (weight, _) in zip(reversed(hidden), reversed(layers), strict=True):
            pieces[:0] = (torch.bmm(h.transpose(1, 2), delta).flatten(1), delta.sum(1))
            if len(pieces) < 2 * len(layers):
                delta = self.function.backward(_times_transpose(delta, weight), h)
        return pieces

    def _through_step(
        self, gradient: Tensor, v: Tensor, step_size: StepSize, k: int
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of <v, -step> for the step sizes or maps and of <v, step> for g."""
        if isinstance(step_size, Maps):
            widths, (values, size) = self.network.widths, step_size
            of_maps = -size * maps.along_maps(widths, values, gradient, v)
            return of_maps, size * maps.pulled_back(widths, values, v)
        assert not isinstance(step_size, Pulled)  # `Network` refuses it
        used = clipped(gradient, step_size)
        # A clipped gradient is constant, so v does not pass through it.
        return -used * v, self.network.scaled(v, step_size, k).where(used == gradient, 0.0)

    def _path(
        self, theta: Tensor, x: Tensor, y: Tensor, step_size: StepSize
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the gradient of each step and the parameters after the step."""
        start = theta
        for k, batch in enumerate(zip(x, y, strict=True)):
            _, gradient = self.loss_and_gradient(theta, *batch)
            used = self.network.used(pulled(gradient, theta, start, step_size), step_size)
            theta = self.network.stepped(theta, used, step_size, k)
            yield gradient, theta

    def _by_layer(self, numbers: Tensor) -> Tensor:
        """Sum numbers of parameters ``(..., P)`` over each layer, ``(..., layer)``."""
        parts = numbers.split(self.network.layer_sizes, dim=-1)
        return torch.stack([part.sum(-1) for part in parts], dim=-1)

    def shifted(self, theta: Tensor, shift: Tensor) -> Tensor:
        """Add a shift to the biases of the first layer."""
        shifted = theta.clone(memory_format=torch.contiguous_format)
        shifted[..., self.network.first_bias] += shift
        return shifted


def _affine(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return h W + b. With one input feature, it is an outer product."""
    return torch.addcmul(bias, h, weight) if h.shape[-1] == 1 else torch.baddbmm(bias, h, weight)


def _times_transpose(delta: Tensor, weight: Tensor) -> Tensor:
    """Return delta W^T. With one output feature it is an outer product."""
    return (
        delta * weight.transpose(1, 2)
        if delta.shape[-1] == 1
        else torch.bmm(delta, weight.transpose(1, 2))
    )


def _flat_stack(theta: Tensor, *points: Tensor) -> tuple[torch.Size, list[Tensor]]:
    """Flatten the leading axes of parameters and points to one. Return these axes, and both.

    A single network is computed twice: torch passes a batch of one to a different matrix product,
    which rounds differently. The bits of a run must not depend on the size of the stack.
    """
    stack = theta.shape[:-1]
    flat = [p.expand(*stack, *p.shape[-2:]).reshape(-1, *p.shape[-2:]) for p in points]
    flat = [theta.reshape(-1, theta.shape[-1]), *flat]
    return stack, [t.repeat(2, *[1] * (t.dim() - 1)) for t in flat] if stack.numel() == 1 else flat


def _unflat(result: Tensor, stack: torch.Size) -> Tensor:
    """Undo `_flat_stack` for a result."""
    whole = result if stack.numel() == len(result) else result[: stack.numel()]
    return whole.reshape((*stack, *result.shape[1:]))  # a slice of all would cost autograd a copy
