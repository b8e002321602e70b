"""Multilayer perceptrons as flat vectors: theta ``(..., P)``.

The leading axes are a stack of independent networks.

    h_0 = x,    z_l = h_{l-1} W_l + b_l,    h_l = activation(z_l),    prediction = z_L

`Network` defines the operations and is their interface to the engines: the fused engine where it is
available, torch elsewhere (`metabench.learning.engine`).

Methods with a shift are for networks that are conditioned on their task. Inputs beside x that are
the same at all points of a task only add to the biases of the first layer, so they are given as:

    z_1 = x W_1 + b_1 + shift
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from metabench.learning.engine import fused, processes
from metabench.learning.engine.heads import MetaBatch, Sets
from metabench.learning.engine.processes import Mixture
from metabench.learning.engine.reference import Reference
from metabench.learning.shape import Shape
from metabench.learning.step_sizes import LAST, Descent, Maps, Pulled, Sizes, StepSize, Weights


class Hidden(NamedTuple):
    """The activations of the hidden layers of a stack of networks at some points."""

    flat: Tensor
    """Activations ``(point, width)`` of all layers, concatenated: ``(..., n)``."""
    last: Tensor
    """Features, the activations of the last layer, ``(..., point, width)``; a view."""


@dataclass(frozen=True)
class Network(Shape):
    """A fully connected network with a linear output layer, and the operations on stacks of them.

    The arguments are those of `Shape`.

    Example:
        >>> Network((1, 64, 64, 1), "tanh").parameters
        4353
    """

    @cached_property
    def trunk(self) -> Network:
        """The hidden layers alone, whose parameters are the first: a network without outputs."""
        return replace(self, widths=(*self.widths[:-1], 0))

    def predict(self, theta: Tensor, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Evaluate a stack of networks.

        Args:
            theta: ``(..., P)``.
            x: ``(..., point, feature)``. Its leading axes broadcast to those of theta.
            shift: Added to the biases of the first layer, ``(..., width)``, likewise.

        Returns:
            Predictions, ``(..., point, output)``.
        """
        return self._engine(theta, x, shift).predict(theta, x, shift)

    def features(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the activations of the last hidden layer, ``(..., point, width)``.

        Arguments are those of `predict`, but theta need not go on after the hidden layers.
        """
        return self.hidden(theta, x).last

    def hidden(self, theta: Tensor, x: Tensor) -> Hidden:
        """Return the activations of all hidden layers, which `pulled_back` takes.

        Arguments are those of `features`.
        """
        points, width, theta = x.shape[-2], self.widths[-2], self._of_trunk(theta)
        flat = self.trunk._engine(theta, x).hidden_layers(theta, x)
        return Hidden(flat, flat[..., -points * width :].unflatten(-1, (points, width)))

    def pulled_back(self, theta: Tensor, x: Tensor, hidden: Hidden, cotangent: Tensor) -> Tensor:
        """Return the gradient of a loss that depends on theta through each network's features.

            d/dtheta sum(cotangent * features(theta, x)),    cotangent = dL/dfeatures

        Args:
            theta: ``(..., P)``, or only the hidden layers.
            x: ``(..., point, feature)``, leading axes broadcast to those of theta.
            hidden: The result of `hidden` for theta and x.
            cotangent: ``(..., point, width)``.

        Returns:
            The gradient with respect to the hidden layers, ``(..., P of the trunk)``.
        """
        theta = self._of_trunk(theta)
        engine = self.trunk._engine(theta, x, hidden.flat, cotangent)
        return engine.pulled_back(theta, x, hidden.flat, cotangent)

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
            x: ``(..., point, feature)``, leading axes broadcast to those of theta.
            y: ``(..., point, output)``, likewise.

        Returns:
            Losses ``(...,)`` and gradients ``(..., P)``.
        """
        return self._engine(theta, x, y).loss_and_gradient(theta, x, y)

    def summed_gradient(
        self, theta: Tensor, x: Tensor, y: Tensor, after: Descent | None = None
    ) -> Tensor:
        """Return the gradients of `loss_and_gradient`, summed along the last axis of the stack.

            sum_t grad L(phi_t; x_t, y_t),    phi_t = theta_t, or theta_t after a descent

        Args:
            theta: ``(..., task, P)``. Not changed.
            x: ``(..., task, point, feature)``, or axes that broadcast to it.
            y: ``(..., task, point, output)``, likewise.
            after: x, y and step_size of `descend`, whose steps are taken first.

        Returns:
            ``(..., P)``.
        """
        return self._engine(theta, x, y, *(after or ())).summed_gradient(theta, x, y, after)

    def hessian_product(self, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of each network's mean squared error times a vector.

            H v = R{grad L(theta; x, y)},    R{.} = d/dr (.) of theta + r v at r = 0

        R{.} differentiates both passes of `loss_and_gradient` line by line. V_l and v_l are the
        parts of v for W_l and b_l, g_l is dL/dh_l and delta_l is dL/dz_l:

            R{h_0} = 0,    R{z_l} = R{h_{l-1}} W_l + h_{l-1} V_l + v_l,    R{h_l} = f'(z_l) R{z_l}
            R{g_{l-1}} = R{delta_l} W_l^T + delta_l V_l^T
            R{delta_l} = f'(z_l) R{g_l} + R{f'(z_l)} g_l
            R{dL/dW_l} = R{h_{l-1}}^T delta_l + h_{l-1}^T R{delta_l}
            R{dL/db_l} = sum_points R{delta_l}

        Args:
            theta: ``(..., P)``.
            x: ``(..., point, feature)``, leading axes broadcast to those of theta.
            y: ``(..., point, output)``, likewise.
            v: ``(..., P)``, likewise.

        Returns:
            ``(..., P)``.

        Reference: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
        """
        return self._engine(theta, x, y, v).hessian_product(theta, x, y, v)

    def shifted_gradient(
        self, theta: Tensor, shift: Tensor, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of shifted networks, summed as in `summed_gradient`.

        Args:
            theta: ``(..., task, P)``.
            shift: Added to the biases of the first layer, ``(..., task, width)``.
            x: ``(..., task, point, feature)`` or axes that broadcast to it.
            y: ``(..., task, point, output)``, likewise.

        Returns:
            The sum ``(..., P)``, and each network's gradient along its shift, ``(..., task,
            width)``.
        """
        return self._engine(theta, shift, x, y).shifted_gradient(theta, shift, x, y)

    def gradient_along_shift(self, theta: Tensor, shift: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the second of what `shifted_gradient` does, from the same arguments."""
        return self._engine(theta, shift, x, y).gradient_along_shift(theta, shift, x, y)

    def descend(self, theta: Tensor, x: Tensor, y: Tensor, step_size: StepSize) -> Tensor:
        """Return the parameters after one gradient step on each of a sequence of batches.

            theta <- theta - step_size * grad L(theta; x_k, y_k),    k = 0, 1, ...

        Args:
            theta: ``(..., P)``. Not changed.
            x: ``(step, ..., point, feature)``. The axes between broadcast to the leading axes of
                theta.
            y: ``(step, ..., point, output)``, likewise.
            step_size: One number, or a number for each network, ``(...,)``, or `Sizes` of its
                parts, or `Maps` of the gradients of its layers, or `Pulled` towards theta.

        Returns:
            The last parameters, ``(..., P)``.
        """
        return self._engine(theta, x, y, step_size).descend(theta, x, y, step_size)

    def predict_along(
        self, theta: Tensor, descent: Descent, query: Tensor, measured: Sequence[int] | None = None
    ) -> Tensor:
        """Return predictions after 0, 1, 2, ... steps of `descend`, or after some of these numbers.

        Args:
            theta: As in `descend`.
            descent: x, y and step_size of `descend`.
            query: Query points, ``(..., point, feature)``. Their leading axes broadcast to those of
                theta.
            measured: Numbers of steps after which to predict, ascending.

        Returns:
            Predictions, ``(measured, ..., point, output)``.

        Raises:
            ValueError: `measured` does not ascend from 0 or more to the number of steps or less.
        """
        steps = len(descent[0])
        numbers = range(steps + 1) if measured is None else measured
        if list(numbers) != [k for k in range(steps + 1) if k in numbers]:
            raise ValueError(f"measured must ascend within 0 to {steps}, got {list(numbers)}")
        engine = self._engine(theta, *descent, query)
        return engine.predict_along(theta, descent, query, numbers)

    def gradient_through(
        self,
        theta: Tensor,
        descent: Descent,
        x: Tensor,
        y: Tensor,
        weights: Weights = LAST,
        second_order: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradient of the loss after a descent, through all of its steps.

            phi_{k+1} = phi_k - alpha_k * grad L(phi_k; batch_k),    k < U,    * elementwise
            v_U = w_U grad L(phi_U; x, y)
            v_k = v_{k+1} - H(phi_k; batch_k) (alpha_k * v_{k+1}) + w_k grad L(phi_k; x, y)
            d/dtheta = sum_t v_0,    d/dalpha_k = -sum_t grad L(phi_k; batch_k) * v_{k+1}

        With `Maps`, C(g)_l = A_l G_l B_l takes the place of g, and C^T(v)_l = A_l^T V_l B_l^T that
        of v in the product with H. G_l and V_l are grad L(phi_k; batch_k) and v_{k+1} at layer l:

            d/dA_l = -alpha sum_t sum_k V_l B_l^T G_l^T
            d/dB_l = -alpha sum_t sum_k G_l^T A_l^T V_l

        Args:
            theta: phi_0, ``(..., task, P)``. Not changed.
            descent: x, y and step_size of `descend`.
            x: Points of the loss, ``(..., task, point, feature)``, or axes that broadcast to it.
            y: ``(..., task, point, output)``, likewise.
            weights: w_U of the loss after the last step, and one w_k for all steps before it; w_0
                is 0.
            second_order: If false, H is left out.

        Returns:
            The gradient for theta, ``(..., P)``. With `Sizes`, also the gradient for the step
            sizes, ``(..., step, layer)`` or ``(..., step, P)``. If one size serves all steps, its
            gradient is summed over them. With `Maps`, also the gradient for the maps, ``(...,
            maps)``. Otherwise None.

        Raises:
            ValueError: The descent has no steps, or they are `Pulled`.
        """
        if not len(descent[0]):
            raise ValueError("a gradient through a descent needs at least one step")
        if isinstance(descent[2], Pulled):
            raise ValueError("a gradient through a descent cannot go through steps that are pulled")
        engine = self._engine(theta, *descent, x, y)
        return engine.gradient_through(theta, descent, x, y, weights, second_order)

    def gradient_through_head(
        self, theta: Tensor, tasks: MetaBatch, step_size: float, steps: int
    ) -> Tensor:
        """Return the gradient of the loss after a descent of only the output layer, through it.

        The gradient is summed over tasks, which share the hidden layers. The network has one
        output. The equations are those of `metabench.learning.algorithms.anil`.

        Args:
            theta: ``(run, P)``. Not changed.
            tasks: Support sets, x and y ``(run, task, shots, .)``, and the query sets of the loss,
                x ``(point, feature)`` or ``(run, task, point, feature)`` and y ``(run, task, point,
                1)``.
            step_size: Step size of the descent on the support sets.
            steps: Number of steps.

        Returns:
            ``(run, P)``.
        """
        self._require_one_output()
        engine = self._engine(theta, *tasks[0], *tasks[1])
        return engine.gradient_through_head(theta, tasks, step_size, steps)

    def gradient_through_ridge(
        self, theta: Tensor, weight: Tensor, tasks: MetaBatch
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the loss after a ridge regression of the output layer's residuals.

        The regression is on the features of the support sets. The gradient goes through it and is
        summed over tasks. The equations are those of `metabench.learning.algorithms.ridge`.

        Args:
            theta: As in `gradient_through_head`.
            weight: lambda of the regression, ``(run,)``.
            tasks: As in `gradient_through_head`.

        Returns:
            ``(run, P)``, and the gradient for the logarithm of lambda, ``(run,)``.
        """
        self._require_one_output()
        engine = self._engine(theta, weight, *tasks[0], *tasks[1])
        return engine.gradient_through_ridge(theta, weight, tasks)

    def gradient_through_context(
        self, theta: Tensor, weight: Tensor, tasks: MetaBatch, step_size: float, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the loss after a descent of each task's context, through it.

        A context starts at 0 and shifts the first layer by its product with W_c. The gradient is
        summed over tasks, which share theta and W_c. The equations are those of
        `metabench.learning.algorithms.cavia`.

        Args:
            theta: As in `gradient_through_head`.
            weight: W_c, ``(run, context, width)``.
            tasks: As in `gradient_through_head`.
            step_size: Step size of the descent on the support sets.
            steps: Number of steps.

        Returns:
            ``(run, P)``, and the gradient for W_c, ``(run, context, width)``.
        """
        engine = self._engine(theta, weight, *tasks[0], *tasks[1])
        return engine.gradient_through_context(theta, weight, tasks, step_size, steps)

    def gradient_of_processes(
        self, theta: Tensor, points: Sets, mean: Tensor, noise: Tensor, covariance: Mixture
    ) -> tuple[Tensor, Tensor, Tensor, Mixture] | None:
        """Return the gradients of the likelihood of labels under Gaussian processes on features.

        They are those of `metabench.learning.kernels.marginal_gradients`.

        Args:
            theta: ``(run, P)``, or only the hidden layers.
            points: Points of each task, ``(run, task, point, .)``.
            mean: The prior mean, ``(run, 1)``, float64.
            noise: The variance of the noise, likewise.
            covariance: The covariance function of each run.

        Returns:
            The gradients along the hidden layers, the mean, the noise and the covariance function,
            or None if torch has to compute them.
        """
        theta, (x, y) = self._of_trunk(theta), points
        kernel = self.trunk._kernel(theta, x, y)
        if kernel is None:
            return None
        return processes.gradients(kernel, theta, x, y, mean, noise, covariance)

    def _of_trunk(self, theta: Tensor) -> Tensor:
        """Return the parameters of the hidden layers."""
        return theta[..., : self.trunk.parameters]

    def _require_one_output(self) -> None:
        if self.widths[-1] != 1:
            raise ValueError(f"a head must have one output, got a network of widths {self.widths}")

    def _engine(self, theta: Tensor, *others: object) -> fused.Kernel | Reference:
        """Return the kernel if it can compute these tensors, otherwise the reference."""
        return self._kernel(theta, *others) or self._reference

    def _kernel(self, theta: Tensor, *others: object) -> fused.Kernel | None:
        """Return the fused engine's kernel if it can compute these tensors.

        Autograd cannot differentiate through the kernel.
        """
        differentiable = theta.requires_grad
        for other in others:
            tensor = other.size if isinstance(other, Pulled) else other
            tensor = tensor.values if isinstance(tensor, Sizes | Maps) else tensor
            differentiable = differentiable or (isinstance(tensor, Tensor) and tensor.requires_grad)
        covered = fused.covers(theta) and not differentiable
        return fused.kernel(self.widths, self.activation) if covered else None

    @cached_property
    def _reference(self) -> Reference:
        return Reference(self)
