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
from metabench.learning.network import Network
from metabench.learning.step_sizes import Maps


class Hyperparameters(InnerLoop):
    """The defaults are those of MAML, so that only the maps differ."""

    meta_batch_size: MetaBatchSize = 3
    queries: Queries = None


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, then an identity for each map."""
    theta = initial_weights(network, seeds, h)
    return torch.cat([theta, network.identity_maps.expand(len(seeds), -1)], dim=-1)


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
    copies = one_copy_per_task(theta, h.meta_batch_size)
    start, values = _split(network, copies)
    descent = *support.repeated(h.inner_steps), Maps(values, h.inner_step_size)
    along_theta, along_maps = network.gradient_through(start, descent, *query)
    assert along_maps is not None  # (run, maps)
    return torch.cat([along_theta, along_maps], dim=-1)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Adapt with mapped gradients, or by plain descent with a given step size, and predict."""
    start, values = _split(network, theta)
    if question.step_size is not None:
        return descending(network, start, question, h)
    mapped = Maps(values, question.multiple * h.inner_step_size)
    return descending_elementwise(network, start, mapped, question)


def _split(network: Network, learned: Tensor) -> tuple[Tensor, Tensor]:
    """Return theta ``(..., P)`` and the maps, as views of the learned vector."""
    return learned[..., : network.parameters], learned[..., network.parameters :]


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=second_order_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions),
)
