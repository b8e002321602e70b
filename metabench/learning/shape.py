"""The shape of a network, and the layout of its layers in the flat vector of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod, sqrt

import torch
from torch import Tensor

from metabench.learning import maps
from metabench.learning.randomness import normals, uniforms
from metabench.learning.step_sizes import Maps, Pulled, Size, Sizes, StepSize, clipped, descended


@dataclass(frozen=True)
class Shape:
    """The shape of a fully connected network with a linear output layer.

    The flat vector holds, layer by layer, the weights ``(fan_in, fan_out)`` and then the biases
    ``(fan_out,)``.

    Args:
        widths: Features of the input, of each hidden layer, and of the output.
        activation: A key of `ACTIVATIONS`.
        initialization: Distribution of initial weights; see `initialize`.

    Example:
        >>> Shape((1, 64, 64, 1), "tanh").parameters
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
        """Floating-point operations of a gradient for each point, in matrix products.

        A layer of n by m costs 2nm in the forward pass, 2nm for the gradient of its weights, and
        2nm to pass the gradient to the layer below. The first layer has none below.
        """
        products = [n * m for n, m in pairwise(self.widths)]
        return 6 * sum(products) - 2 * products[0]

    @cached_property
    def _shapes(self) -> list[tuple[int, int]]:
        """Shapes of W_1, b_1, W_2, b_2, ... in the order of the flat vector."""
        return [shape for n, m in pairwise(self.widths) for shape in ((n, m), (1, m))]

    @cached_property
    def _sizes(self) -> list[int]:
        """Lengths of W_1, b_1, W_2, b_2, ..."""
        return [prod(shape) for shape in self._shapes]

    @cached_property
    def layer_sizes(self) -> list[int]:
        """Number of parameters of each layer, weights and biases together."""
        return [n + m for n, m in zip(self._sizes[::2], self._sizes[1::2], strict=True)]

    @cached_property
    def layer_of_parameter(self) -> Tensor:
        """Index of the layer of each parameter, ``(P,)``."""
        return torch.arange(len(self.layer_sizes)).repeat_interleave(torch.tensor(self.layer_sizes))

    @property
    def head(self) -> Tensor:
        """Mask of the parameters of the output layer, ``(P,)`` bool."""
        return self.layer_of_parameter == len(self.layer_sizes) - 1

    @property
    def first_bias(self) -> slice:
        """Slice of the flat vector that holds the biases of the first layer."""
        return slice(self._sizes[0], sum(self._sizes[:2]))

    @property
    def identity_maps(self) -> Tensor:
        """The values of `Maps` that leave gradients as they are, ``(maps,)``, float64."""
        return maps.identities(self.widths)

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """View a stack of flat vectors as layers.

        Args:
            theta: ``(..., P)``.

        Returns:
            A pair of views of theta for each layer: weights ``(..., fan_in, fan_out)`` and biases
            ``(..., 1, fan_out)``.
        """
        stack, pieces = theta.shape[:-1], theta.split(self._sizes, dim=-1)
        views = [p.view(*stack, *shape) for p, shape in zip(pieces, self._shapes, strict=True)]
        return list(zip(views[::2], views[1::2], strict=True))

    def initialize(self, seed: int, part: int = 0) -> Tensor:
        """Draw the initial weights of one training seed.

        ``uniform``: weights and biases of a layer are uniform on +-1/sqrt(fan_in), the default of
        ``torch.nn.Linear`` and of the Flux script. ``zero-biases``: the same, with the biases of
        hidden layers 0, as in the code of OP-LSTM's authors. ``normal``: weights are normal with a
        standard deviation of 0.01, truncated at two standard deviations, and biases are 0, as in
        the code of the MAML paper.

        Args:
            seed: The training seed.
            part: Index of the network, for algorithms with several networks.

        Returns:
            theta, ``(P,)``, float64: the same for every algorithm and cell.
        """
        unit = uniforms(seed, "init", part, self.parameters)
        scales = torch.tensor(list(self._scales()), dtype=torch.float64)
        if self.initialization == "normal":
            return torch.from_numpy(normals(unit, cut=2.0)) * scales
        return (2 * torch.from_numpy(unit) - 1) * scales

    def _scales(self) -> Iterator[float]:
        """Yield the scale of the initial distribution of each parameter."""
        for layer, (n, m) in enumerate(pairwise(self.widths), start=2):
            bound = 1 / sqrt(n)
            weight, bias = {
                "uniform": (bound, bound),
                "zero-biases": (bound, 0.0 if layer < len(self.widths) else bound),
                "normal": (0.01, 0.0),
            }[self.initialization]
            yield from [weight] * n * m + [bias] * m

    def used(self, gradient: Tensor, step_size: StepSize) -> Tensor:
        """Return a gradient ``(..., P)`` as a step uses it: clipped or mapped."""
        if isinstance(step_size, Maps):
            return maps.mapped(self.widths, step_size.values, gradient)
        return clipped(gradient, step_size)

    def stepped(self, theta: Tensor, direction: Tensor, step_size: StepSize, k: int) -> Tensor:
        """Return theta - alpha_k * direction, all ``(..., P)``, with the step size of step k."""
        if isinstance(step_size, Sizes):
            return theta - self.scaled(direction, step_size, k)
        return descended(
            theta, direction, step_size.size if isinstance(step_size, Maps | Pulled) else step_size
        )

    def clipped(
        self, step_size: Size, limit: float | None, dtype: torch.dtype = torch.float32
    ) -> Size | Sizes:
        """Return a step size that clips each number of a gradient to [-limit, limit].

        If limit is None, gradients are not clipped.
        """
        if limit is None:
            return step_size
        size = torch.as_tensor(step_size, dtype=dtype)[..., None]
        return Sizes(size.expand(*size.shape[:-1], len(self.layer_sizes)).contiguous()[None], limit)

    def scaled(self, v: Tensor, step_size: Size | Sizes, k: int) -> Tensor:
        """Return alpha_k * v, ``(..., P)``, with the step size of step k."""
        if not isinstance(step_size, Sizes):
            return v * (step_size[..., None] if isinstance(step_size, Tensor) else step_size)
        sizes = step_size.values[min(k, len(step_size.values) - 1)]  # one size may serve all steps
        by_layer = sizes.shape[-1] < self.parameters
        return v * (sizes[..., self.layer_of_parameter] if by_layer else sizes)
