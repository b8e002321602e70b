"""Linear maps of the gradients of layers: G_l -> A_l G_l B_l.

    G_l = [dL/dW_l; dL/db_l]  ``(fan_in + 1, fan_out)``
    A_l ``(fan_in + 1, fan_in + 1)``,   B_l ``(fan_out, fan_out)``

The maps of a network are one flat vector: A_1, B_1, A_2, ... They are given by the widths of its
layers.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from metabench.learning.linear import product

Widths = tuple[int, ...]


def identities(widths: Widths) -> Tensor:
    """Return the maps that change nothing, ``(maps,)``, float64."""
    eyes = [torch.eye(size, dtype=torch.float64) for size in _orders(widths)]
    return torch.cat([eye.flatten() for eye in eyes])


def length(widths: Widths) -> int:
    """Return the number of values of the maps."""
    return sum(size**2 for size in _orders(widths))


def mapped(widths: Widths, maps: Tensor, gradient: Tensor) -> Tensor:
    """Return A_l G_l B_l of all layers.

    Args:
        widths: Widths of the network.
        maps: ``(..., maps)``, whose leading axes broadcast to those of the gradient.
        gradient: ``(..., P)``.

    Returns:
        ``(..., P)``.
    """
    layers = zip(_pairs(widths, maps), _layers(widths, gradient), strict=True)
    return _flat([product(product(a, g), b) for (a, b), g in layers])


def pulled_back(widths: Widths, maps: Tensor, v: Tensor) -> Tensor:
    """Return A_l^T V_l B_l^T of all layers. The arguments are those of `mapped`."""
    layers = zip(_pairs(widths, maps), _layers(widths, v), strict=True)
    return _flat([product(product(_transposed(a), v_l), _transposed(b)) for (a, b), v_l in layers])


def along_maps(widths: Widths, maps: Tensor, gradient: Tensor, v: Tensor) -> Tensor:
    """Return the gradient of <v, `mapped`> with respect to the maps.

        d/dA_l = V_l B_l^T G_l^T,    d/dB_l = G_l^T A_l^T V_l

    Args:
        widths: As in `mapped`.
        maps: As in `mapped`.
        gradient: ``(..., P)``.
        v: ``(..., P)``.

    Returns:
        ``(..., maps)``.
    """
    found = []
    layers = _pairs(widths, maps), _layers(widths, gradient), _layers(widths, v)
    for (a, b), g, v_l in zip(*layers, strict=True):
        g_t = _transposed(g)
        found.append(product(product(v_l, _transposed(b)), g_t))
        found.append(product(g_t, product(_transposed(a), v_l)))
    return _flat(found)


def _orders(widths: Widths) -> list[int]:
    """Return the orders of A_1, B_1, A_2, ..."""
    return [size for n, m in pairwise(widths) for size in (n + 1, m)]


def _pairs(widths: Widths, maps: Tensor) -> list[tuple[Tensor, Tensor]]:
    """View the maps as A_l and B_l of each layer."""
    orders = _orders(widths)
    pieces = maps.split([n * n for n in orders], dim=-1)
    squares = [piece.unflatten(-1, (n, n)) for piece, n in zip(pieces, orders, strict=True)]
    return list(zip(squares[::2], squares[1::2], strict=True))


def _layers(widths: Widths, vector: Tensor) -> list[Tensor]:
    """View a flat vector ``(..., P)`` as layers, each with the biases below the weights."""
    shapes = [(n + 1, m) for n, m in pairwise(widths)]
    pieces = vector.split([n * m for n, m in shapes], dim=-1)
    return [piece.unflatten(-1, shape) for piece, shape in zip(pieces, shapes, strict=True)]


def _transposed(matrix: Tensor) -> Tensor:
    """Return the transpose as a copy.

    A view is passed on as it is from a stack of one run, and copied by `product` from larger ones.
    The products of the two round differently.
    """
    return matrix.mT.contiguous()


def _flat(matrices: list[Tensor]) -> Tensor:
    """Concatenate matrices into one flat vector."""
    return torch.cat([matrix.flatten(-2) for matrix in matrices], dim=-1)
