"""ANIL, almost no inner loop: MAML that adapts only the output layer.

    f(x) = h(x) w + b        h is the last hidden layer, [w, b] the head; both are part of theta
    e_k = f_k(X) - Y,   [w, b]_{k+1} = [w, b]_k - alpha dL/d[w, b]
                                     = [w, b]_k - 2 alpha / n [h, 1]' e_k
    theta <- theta - meta_step_size * d/dtheta sum_t L(f_U; query_t)

alpha is inner_step_size, n = shots, and X, Y are the support set. All of theta is learned. The
hidden layers are features that tasks share. By the chain rule, the outer gradient goes through the
adaptation: [u, c] = dL/d[w, b] starts at the query set and goes back through each step,

    q_k = -2 alpha / n (h(X) u + c),   [u, c] <- [u, c] + [h(X), 1]' q_k
    dL/dh(X) = sum_k (q_k w_k' - 2 alpha / n e_k u')

Reference: Raghu et al. 2020, arXiv:1909.09157, section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Question,
    descending_elementwise,
    second_order_cost,
    support_and_query,
)
from metabench.learning.hyperparameters import InnerLoop, MetaBatchSize, Queries
from metabench.learning.network import Network
from metabench.learning.step_sizes import Sizes


class Hyperparameters(InnerLoop):
    """The defaults are those of FOMAML, so that only the algorithms differ."""

    meta_batch_size: MetaBatchSize = 3
    queries: Queries = None


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss after adaptation of the head.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, P)``.
    """
    support, query = batch
    return network.gradient_through_head(theta, (support, query), h.inner_step_size, h.inner_steps)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Adapt the head and predict."""
    layers = len(network.layer_sizes)
    # A step size of 0 freezes a layer: adaptation of the head is descent with sizes by layer.
    head = torch.arange(layers) == layers - 1
    if question.step_size is None:
        alpha = theta.new_tensor(question.multiple * h.inner_step_size)
    else:
        alpha = question.step_size
    sizes = Sizes((alpha[..., None] * head)[None])  # (1, ..., layer)
    return descending_elementwise(network, theta, sizes, question)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=second_order_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    adaptation=Adaptation(predictions),
)
