"""Meta-Curvature: learn the initialization, and linear maps that transform every inner gradient.

    G_l = [dL/dW_l; dL/db_l] ``(fan_in + 1, fan_out)``,   C(g)_l = A_l G_l B_l
    phi_{k+1} = phi_k - alpha C(grad L(phi_k; support)),   A_l and B_l begin at the identity
    v_U = grad L(phi_U; query),   v_k = v_{k+1} - alpha H(phi_k; support) C^T(v_{k+1})
    theta <- theta - meta_step_size * sum_t v_0
    A_l <- A_l + meta_step_size * alpha sum_t sum_k V_l B_l^T G_l^T
    B_l <- B_l + meta_step_size * alpha sum_t sum_k G_l^T A_l^T V_l

C^T is the transpose of C, with C^T(v)_l = A_l^T V_l B_l^T. V_l is v_{k+1} at layer l, and alpha is
inner_step_size. The learned vector is [theta, A_1, B_1, A_2, ...]. MAML is the special case of maps
that stay the identity. Meta-SGD has one diagonal map of all parameters instead.

Note: The bias of a layer is a row of its weight matrix here.

Reference: Park and Oliva 2019, arXiv:1902.03356, section 3.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from metabench.learning import adaptation
from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Question,
    descending,
    initial_weights,
    second_order_cost,
    support_and_query,
)
from metabench.learning.hyperparameters import InnerLoop, MetaBatchSize, Queries
from metabench.learning.linear import product
from metabench.learning.network import Network

Maps = list[tuple[Tensor, Tensor]]
"""A_l ``(..., fan_in + 1, fan_in + 1)`` and B_l ``(..., fan_out, fan_out)`` of each layer."""


class Hyperparameters(InnerLoop):
    """The defaults are those of MAML, so that only the maps differ."""

    meta_batch_size: MetaBatchSize = 3
    queries: Queries = None


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, then an identity for each map."""
    theta = initial_weights(network, seeds, h)
    eyes = [torch.eye(size, dtype=theta.dtype).flatten() for size in _map_sizes(network)]
    return torch.cat([theta, torch.cat(eyes).expand(len(seeds), -1)], dim=-1)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss after adaptation, for theta and the maps.

    Args:
        network: The network.
        theta: [theta, A_1, B_1, ...], ``(run, M)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, M)``.
    """
    support, query = batch
    start, maps = _split(network, theta)
    phi = one_copy_per_task(start, h.meta_batch_size)
    passed = []  # of each step: phi_k, and G_l and A_l G_l of each layer
    for _ in range(h.inner_steps):
        _, gradient = network.loss_and_gradient(phi, *support)
        layers = _layers(network, gradient)
        half = [_left(a, g) for (a, _), g in zip(maps, layers, strict=True)]
        passed.append((phi, layers, half))
        mapped = [_right(ag, b) for (_, b), ag in zip(maps, half, strict=True)]
        phi = phi - h.inner_step_size * _flat(mapped)

    _, v = network.loss_and_gradient(phi, *query)
    along_maps = torch.zeros_like(theta[:, network.parameters :])
    for phi, layers, half in reversed(passed):
        along, back = [], []
        for (a, b), g, ag, v_l in zip(maps, layers, half, _layers(network, v), strict=True):
            v_b = _right(v_l, b.mT.contiguous())  # V_l B_l^T
            along += [_sum_outer(v_b, g), _sum_inner(ag, v_l)]
            back.append(_left(a.mT.contiguous(), v_b))
        along_maps -= h.inner_step_size * torch.cat([map_.flatten(1) for map_ in along], dim=-1)
        v = v - h.inner_step_size * network.hessian_product(phi, *support, _flat(back))
    return torch.cat([v.sum(-2), along_maps], dim=-1)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Adapt with mapped gradients, or by plain descent with a given step size, and predict."""
    start, maps = _split(network, theta)
    if question.step_size is not None:
        return descending(network, start, question, h)
    size = question.multiple * h.inner_step_size
    rule = question.optimizer or "sgd"
    mapped = partial(_mapped, network, maps=maps)
    path = adaptation.path(network, start, question.batches, size, rule, mapped)
    return adaptation.predicted(network, path, question.x, question.every)


def _mapped(network: Network, gradient: Tensor, maps: Maps) -> Tensor:
    """Return A_l G_l B_l of all layers, ``(..., P)``, with each network's own maps."""
    layers = zip(_layers(network, gradient), maps, strict=True)
    return _flat([product(product(a, g), b) for g, (a, b) in layers])


# The tasks of a run share its maps. So the tasks' matrices are placed side by side or one below the
# other, and one product per run computes the products of all tasks.


def _left(a: Tensor, layer: Tensor) -> Tensor:
    """Return the products of a ``(run, n, n)`` and the tasks' matrices ``(run, task, n, m)``."""
    side_by_side = layer.transpose(1, 2).flatten(2)  # (run, n, task m)
    mapped = product(a, side_by_side)
    return mapped.unflatten(-1, (-1, layer.shape[-1])).transpose(1, 2)


def _right(layer: Tensor, b: Tensor) -> Tensor:
    """Return the products of the tasks' matrices ``(run, task, n, m)`` and b ``(run, m, m)``."""
    return product(layer.flatten(1, 2), b).unflatten(1, layer.shape[1:3])


def _sum_outer(x: Tensor, y: Tensor) -> Tensor:
    """Return sum_t x_t y_t^T, ``(run, n, n)``, of matrices ``(run, task, n, m)``."""
    flat = [side.transpose(1, 2).flatten(2) for side in (x, y)]
    return product(flat[0], flat[1].mT)


def _sum_inner(x: Tensor, y: Tensor) -> Tensor:
    """Return sum_t x_t^T y_t, ``(run, m, m)``, of matrices ``(run, task, n, m)``."""
    return product(x.flatten(1, 2).mT, y.flatten(1, 2))


def _flat(layers: list[Tensor]) -> Tensor:
    """Concatenate layers into one flat vector, ``(..., P)``."""
    return torch.cat([layer.flatten(-2) for layer in layers], dim=-1)


def _layers(network: Network, vector: Tensor) -> list[Tensor]:
    """View a flat vector ``(..., P)`` as layers, each with the biases below the weights."""
    pieces = vector.split(network.layer_sizes, dim=-1)
    rows = [n + 1 for n in network.widths[:-1]]
    return [piece.unflatten(-1, (n, -1)) for piece, n in zip(pieces, rows, strict=True)]


def _map_sizes(network: Network) -> list[int]:
    """Return the orders of A_1, B_1, A_2, ..."""
    return [size for n, m in pairwise(network.widths) for size in (n + 1, m)]


def _split(network: Network, learned: Tensor) -> tuple[Tensor, Maps]:
    """Return theta ``(..., P)`` and the maps, as views of the learned vector."""
    sizes = _map_sizes(network)
    theta, *pieces = learned.split([network.parameters, *(n * n for n in sizes)], dim=-1)
    squares = [piece.unflatten(-1, (n, n)) for piece, n in zip(pieces, sizes, strict=True)]
    return theta, list(zip(squares[::2], squares[1::2], strict=True))


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=second_order_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions),
)
