"""Kernels on learned features, with their gradients.

    linear     k(h, h') = v h . h'
    rbf        k(h, h') = v exp(-|h - h'|^2 / 2 l^2)
    spectral   k(h, h') = sum_q w_q exp(-|s_q * (h - h')|^2 / 2) cos(m_q . (h - h'))

The values of a kernel are one vector ``(..., n)``. Those that must be positive are logarithms. With
G = dL/dK, E = G * K and, for one component, S = G * w exp(-|z - z'|^2 / 2) sin(m . (h - h')), the
gradients of a loss at points h, where a Gaussian factor has z = h / l or z = s * h, are

    linear                         dL/dh = 2 v G h
    through a Gaussian factor      dL/dz = 2 (E z - diag(E 1) z)
    through a cosine               dL/d(h . m) = -2 S 1

References: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, section 4.2;
    Wilson and Adams 2013, arXiv:1302.4245 (spectral mixture); Wilson et al. 2016, arXiv:1511.02222,
    equation 4, its form on learned features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from metabench.learning.engine.heads import Sets
from metabench.learning.engine.processes import Mixture
from metabench.learning.linear import factor_or_nan, product
from metabench.learning.network import Network
from metabench.learning.randomness import uniforms

COMPONENTS = 4
"""Q, the number of components of the spectral mixture, as in the code of deep kernel transfer."""


class Kernel(ABC):
    """A kernel: a function of features and of its own values, without state."""

    @abstractmethod
    def begin(self, width: int, seed: int) -> Tensor:
        """Return the initial values for features of a width, ``(n,)``, float64."""

    @abstractmethod
    def __call__(self, a: Tensor, b: Tensor, values: Tensor) -> Tensor:
        """Return the kernel of features a ``(..., p, width)`` and b ``(..., q, width)``.

        Args:
            a: Features.
            b: Features.
            values: The kernel's values, ``(..., n)``.

        Returns:
            ``(..., p, q)``.
        """

    @abstractmethod
    def diagonal(self, h: Tensor, values: Tensor) -> Tensor:
        """Return the kernel of each point with itself, ``(..., p, 1)``."""

    @abstractmethod
    def pulled_back(self, h: Tensor, values: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of a loss with respect to features and values.

        Args:
            h: Features, ``(..., p, width)``.
            values: ``(..., n)``.
            along: dL/dK of K = k(h, h), symmetric, ``(..., p, p)``.

        Returns:
            dL/dh ``(..., p, width)`` and dL/dvalues ``(..., n)``.
        """


class Components(Kernel):
    """A kernel that is a sum of components, which the fused engine can compute."""

    @abstractmethod
    def mixture(self, values: Tensor, width: int) -> Mixture:
        """Return the components.

        Args:
            values: ``(..., n)``.
            width: Number of features.
        """

    @abstractmethod
    def along_values(self, along: Mixture) -> Tensor:
        """Return dL/dvalues ``(..., n)`` from the gradient along `mixture`."""


class Linear(Kernel):
    """The linear kernel; its value is log v."""

    def begin(self, width: int, seed: int) -> Tensor:
        """Return v = 1."""
        return torch.zeros(1, dtype=torch.float64)

    def __call__(self, a: Tensor, b: Tensor, values: Tensor) -> Tensor:
        """Return the kernel."""
        return values.exp()[..., None] * product(a, b.mT)

    def diagonal(self, h: Tensor, values: Tensor) -> Tensor:
        """Return the diagonal."""
        return values.exp()[..., None] * h.square().sum(-1, keepdim=True)

    def pulled_back(self, h: Tensor, values: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients."""
        of_h = 2 * values.exp()[..., None] * product(along, h)
        return of_h, (of_h * h).sum((-2, -1))[..., None] / 2


class RBF(Components):
    """The RBF kernel with one length scale; its values are log v and log l."""

    def begin(self, width: int, seed: int) -> Tensor:
        """Return v = l = 1."""
        return torch.zeros(2, dtype=torch.float64)

    def __call__(self, a: Tensor, b: Tensor, values: Tensor) -> Tensor:
        """Return the kernel."""
        variance, length = _numbers(values)
        return variance * _gaussian(a / length, b / length)

    def diagonal(self, h: Tensor, values: Tensor) -> Tensor:
        """Return the diagonal."""
        variance, _ = _numbers(values)
        return variance.expand(*h.shape[:-1], 1)

    def pulled_back(self, h: Tensor, values: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients."""
        _, length = _numbers(values)
        weighted, z = along * self(h, h, values), h / length
        of_z = _through_gaussian(z, weighted)
        of_values = [weighted.sum((-2, -1)), -(of_z * z).sum((-2, -1))]
        return of_z / length, torch.stack(of_values, dim=-1)

    def mixture(self, values: Tensor, width: int) -> Mixture:
        """Return the one component, which has s = 1 / l."""
        weight, length = values.exp().split(1, dim=-1)
        scale = length.reciprocal().unsqueeze(-1).expand(*values.shape[:-1], 1, width)
        return Mixture(weight, scale, None)

    def along_values(self, along: Mixture) -> Tensor:
        """Return the gradients along log v and log l."""
        return torch.cat([along.weight, -along.scale.sum(-1)], dim=-1)


class Spectral(Components):
    """The spectral mixture of Q components; its values are log w, log s and m."""

    def begin(self, width: int, seed: int) -> Tensor:
        """Return w = 1 / Q, s = 1, and m uniform on [-1, 1] from the seed.

        Components that begin equal would stay equal.
        """
        unit = torch.from_numpy(uniforms(seed, "init", 1, COMPONENTS * width))
        weights = torch.full((COMPONENTS,), 1 / COMPONENTS, dtype=torch.float64).log()
        return torch.cat([weights, torch.zeros_like(unit), 2 * unit - 1])

    def __call__(self, a: Tensor, b: Tensor, values: Tensor) -> Tensor:
        """Return the kernel."""
        mixture = self.mixture(values, a.shape[-1])
        envelope, phase = _factors(a.unsqueeze(-3), b.unsqueeze(-3), mixture)
        return (envelope * phase.cos()).sum(-3)

    def diagonal(self, h: Tensor, values: Tensor) -> Tensor:
        """Return the diagonal."""
        weight, _ = values.tensor_split([COMPONENTS], dim=-1)
        return weight.exp()[..., None, None].sum(-3).expand(*h.shape[:-1], 1)

    def pulled_back(self, h: Tensor, values: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients."""
        mixture = self.mixture(values, h.shape[-1])
        _, scale, frequency = _for_points(mixture)
        h, along = h.unsqueeze(-3), along.unsqueeze(-3)
        envelope, phase = _factors(h, h, mixture)
        weighted, z = along * envelope * phase.cos(), h * scale
        of_z = _through_gaussian(z, weighted)
        of_phase = -2 * (along * envelope * phase.sin()).sum(-1, keepdim=True)
        of_h = of_z * scale + of_phase * frequency
        of_values = [
            weighted.sum((-2, -1)),
            (of_z * z).sum(-2).flatten(-2),
            (of_phase * h).sum(-2).flatten(-2),
        ]
        return of_h.sum(-3), torch.cat(of_values, dim=-1)

    def mixture(self, values: Tensor, width: int) -> Mixture:
        """Return the components."""
        weights, rest = values.tensor_split([COMPONENTS], dim=-1)
        scales, frequencies = rest.unflatten(-1, (2, COMPONENTS, width)).unbind(-3)
        return Mixture(weights.exp(), scales.exp(), frequencies)

    def along_values(self, along: Mixture) -> Tensor:
        """Return the gradients along log w, log s and m."""
        assert along.frequency is not None
        return torch.cat([along.weight, along.scale.flatten(-2), along.frequency.flatten(-2)], -1)


KERNELS: dict[str, Kernel] = {"rbf": RBF(), "spectral": Spectral(), "linear": Linear()}
"""The kernels by name."""


class Gradients(NamedTuple):
    """The gradients of the mean negative log marginal likelihood of a point, summed over tasks."""

    hidden: Tensor
    """Along the parameters of the hidden layers, ``(run, P)``."""
    mean: Tensor
    """Along the prior mean, ``(run, 1)``, float64."""
    noise: Tensor
    """Along the variance of the noise, likewise."""
    values: Tensor
    """Along the values of the kernel, ``(run, n)``, float64."""


def marginal_gradients(
    kernel: Kernel,
    network: Network,
    theta: Tensor,
    points: Sets,
    mean: Tensor,
    noise: Tensor,
    values: Tensor,
) -> Gradients:
    """Return the gradients of the likelihood of each task's labels under a Gaussian process.

    With a = K^-1 (y - c) and n points, the gradient along K is (K^-1 - a a') / 2n, and along the
    mean c it is -1' a / n. The fused engine computes them for kernels that are `Components`.

    Args:
        kernel: The kernel.
        network: The network, whose last hidden layer gives the features.
        theta: Parameters of its hidden layers, ``(run, P)``.
        points: Points of each task, ``(run, task, point, .)``.
        mean: c, ``(run, 1)``, float64.
        noise: The variance of the noise, likewise.
        values: The kernel's values, ``(run, n)``, float64.
    """
    x, y = points
    if isinstance(kernel, Components):
        mixture = kernel.mixture(values, network.widths[-2])
        found = network.gradient_of_processes(theta, points, mean, noise, mixture)
        if found is not None:
            hidden_part, of_mean, of_noise, of_mixture = found
            return Gradients(hidden_part, of_mean, of_noise, kernel.along_values(of_mixture))
    of_tasks = [part[:, None, ..., None] for part in (mean, noise)]  # the same for all tasks
    shared, count, x = values[:, None], y.shape[-2], x.flatten(1, 2)
    hidden = network.hidden(theta, x)  # the points of all tasks in one pass
    features = hidden.last.unflatten(1, y.shape[1:3]).double()
    root = covariance_factor(kernel, features, of_tasks[1], shared)
    a = torch.cholesky_solve(y - of_tasks[0], root)
    along = (torch.cholesky_inverse(root) - product(a, a.mT)) / (2 * count)  # along K
    along_features, along_values = kernel.pulled_back(features, shared, along)
    cotangent = along_features.flatten(1, 2).to(theta.dtype)
    return Gradients(
        network.pulled_back(theta, x, hidden, cotangent),
        -a.sum((1, 2)) / count,
        along.diagonal(dim1=-2, dim2=-1).sum((1, 2))[:, None],
        along_values.sum(1),
    )


def covariance_factor(kernel: Kernel, features: Tensor, noise: Tensor, values: Tensor) -> Tensor:
    """Return the lower Cholesky factor of K = k(h, h) + s I, ``(..., point, point)``.

    It is nan where K is not positive definite.

    Args:
        kernel: The kernel.
        features: h, ``(..., point, width)``, float64.
        noise: s, ``(..., 1, 1)``.
        values: The kernel's values, ``(..., n)``.
    """
    unit = torch.eye(features.shape[-2], dtype=features.dtype)
    return factor_or_nan(kernel(features, features, values) + noise * unit)


def _numbers(values: Tensor) -> list[Tensor]:
    """Return the exponential of each value, ``(..., 1, 1)``."""
    return [value[..., None, None] for value in values.exp().unbind(-1)]


def _for_points(mixture: Mixture) -> tuple[Tensor, Tensor, Tensor]:
    """Return w ``(..., Q, 1, 1)``, and s and m ``(..., Q, 1, width)``, of a spectral mixture."""
    weight, scale, frequency = mixture
    assert frequency is not None
    return weight[..., None, None], scale[..., None, :], frequency[..., None, :]


def _factors(a: Tensor, b: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Return w exp(-|s * (a - b)|^2 / 2) and m . (a - b), ``(..., Q, p, q)``."""
    weight, scale, frequency = _for_points(mixture)
    at_a, at_b = (product(points, frequency.mT) for points in (a, b))
    return weight * _gaussian(a * scale, b * scale), at_a - at_b.mT


def _gaussian(a: Tensor, b: Tensor) -> Tensor:
    """Return exp(-|a - b|^2 / 2), ``(..., p, q)``."""
    squares = a.square().sum(-1, keepdim=True) + b.square().sum(-1, keepdim=True).mT
    # In float64, so that the difference of large numbers keeps enough digits.
    return torch.exp(product(a, b.mT) - squares / 2)


def _through_gaussian(z: Tensor, weighted: Tensor) -> Tensor:
    """Return dL/dz ``(..., p, width)`` through exp(-|z - z'|^2 / 2), where E is `weighted`."""
    return 2 * (product(weighted, z) - weighted.sum(-1, keepdim=True) * z)
