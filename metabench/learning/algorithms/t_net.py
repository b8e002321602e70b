"""T-net: learn the initialization, and a transformation of each layer that does not adapt.

    h_l = activation([h_{l-1}, 1] W_l T_l)     W_l ``(fan_in + 1, fan_out)`` ends with the biases
    W_{l,k+1} = W_{l,k} - alpha dL/dW_l        T_l ``(fan_out, fan_out)`` begins at the identity
    [W, T] <- [W, T] - meta_step_size * d/d[W, T] sum_t L(W_U, T; query_t)

alpha is inner_step_size, and k runs over inner_steps. The learned vector is [W_1, W_2, .., T_1,
T_2, ..]. The layer is that of a plain network with the parameters phi_l = W_l T_l. With G_l =
dL/dphi_l, its adaptation is

    dL/dW_l = G_l T_l^T,   phi_{l,k+1} = phi_{l,k} - alpha G_l B_l,   B_l = T_l^T T_l

So T_l^T T_l is a learned metric of the inner gradient: a step is that of Meta-Curvature with the
maps A_l = I and B_l. The chain rule takes the gradients for phi_{l,0} and B_l to W_l and T_l:

    dL/dW_l = dL/dphi_{l,0} T_l^T
    dL/dT_l = W_l^T dL/dphi_{l,0} + T_l (dL/dB_l + (dL/dB_l)^T)

MAML is the special case of transformations that stay the identity.

Note: The paper's MT-net also draws a mask for each task: which columns of W_l adapt. It is left
    out, since training would then adapt differently from evaluation.

Reference: Lee and Choi 2018, arXiv:1801.05558, section 3; https://github.com/yoonholee/MT-net.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Question,
    descending,
    descending_elementwise,
    initial_weights,
    second_order_cost,
    support_and_query,
)
from metabench.learning.hyperparameters import InnerLoop, MetaBatchSize, Queries
from metabench.learning.linear import product
from metabench.learning.network import Network
from metabench.learning.step_sizes import Maps

Pairs = list[tuple[Tensor, Tensor]]
"""Two matrices of each layer."""


class Hyperparameters(InnerLoop):
    """The defaults are those of MAML, so that only the transformations differ."""

    meta_batch_size: MetaBatchSize = 3
    queries: Queries = None


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, then an identity for each layer."""
    theta = initial_weights(network, seeds, h)
    identities = [torch.eye(width, dtype=theta.dtype) for width in network.widths[1:]]
    return torch.cat([theta, _flat(identities).expand(len(seeds), -1)], dim=-1)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss after adaptation, for W and T.

    Args:
        network: The network.
        theta: [W_1, .., T_1, ..], ``(run, M)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, M)``.
    """
    support, query = batch
    layers = _layers(network, theta)
    start, maps = (one_copy_per_task(part, h.meta_batch_size) for part in _plain(layers))
    descent = *support.repeated(h.inner_steps), Maps(maps, h.inner_step_size)
    along_start, along_maps = network.gradient_through(start, descent, *query)
    assert along_maps is not None  # (run, maps)
    return _pulled_back(layers, along_start, along_maps)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Adapt W with T as learned, or phi by plain descent with a given step size, and predict."""
    start, maps = _plain(_layers(network, theta))
    if question.step_size is not None:
        return descending(network, start, question, h)
    metric = Maps(maps, question.multiple * h.inner_step_size)
    return descending_elementwise(network, start, metric, question)


def _layers(network: Network, theta: Tensor) -> Pairs:
    """View the learned vector ``(..., M)`` as W_l and T_l of each layer."""
    widths = network.widths[1:]
    pieces = theta.split([*network.layer_sizes, *(width**2 for width in widths)], dim=-1)
    matrices = [p.unflatten(-1, (-1, m)) for p, m in zip(pieces, 2 * widths, strict=True)]
    return list(zip(matrices[: len(widths)], matrices[len(widths) :], strict=True))


def _plain(layers: Pairs) -> tuple[Tensor, Tensor]:
    """Return phi_0 ``(..., P)`` of the plain network, and I and B_l as the values of `Maps`."""
    start = [product(weight, transformation) for weight, transformation in layers]
    maps = []
    for weight, transformation in layers:
        unit = torch.eye(weight.shape[-2], dtype=weight.dtype)
        maps.append(unit.expand(*weight.shape[:-2], -1, -1))
        maps.append(product(_transposed(transformation), transformation))
    return _flat(start), _flat(maps)


def _pulled_back(layers: Pairs, along_start: Tensor, along_maps: Tensor) -> Tensor:
    """Return the gradient for W and T ``(run, M)`` from those for phi_0 and the maps."""
    sizes = [weight.shape[-2:].numel() for weight, _ in layers]
    squares = [matrix.shape[-2] ** 2 for pair in layers for matrix in pair]
    along_metrics = along_maps.split(squares, dim=-1)[1::2]
    found = [
        _of_layer(*pair, along.view_as(pair[0]), along_metric.view_as(pair[1]))
        for pair, along, along_metric in zip(
            layers, along_start.split(sizes, dim=-1), along_metrics, strict=True
        )
    ]
    of_weights, of_transformations = zip(*found, strict=True)
    return _flat([*of_weights, *of_transformations])


def _of_layer(
    weight: Tensor, transformation: Tensor, along: Tensor, along_metric: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients for W_l and T_l from those for phi_{l,0} and B_l, by the chain rule."""
    of_weight = product(along, _transposed(transformation))
    of_metric = product(transformation, along_metric + _transposed(along_metric))
    return of_weight, product(_transposed(weight), along) + of_metric


def _transposed(matrix: Tensor) -> Tensor:
    """Return the transpose as a copy, since torch multiplies by a view with other rounding."""
    return matrix.mT.contiguous()


def _flat(matrices: list[Tensor]) -> Tensor:
    """Concatenate matrices into one flat vector."""
    return torch.cat([matrix.flatten(-2) for matrix in matrices], dim=-1)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=second_order_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions),
)
