"""ANIL, almost no inner loop: MAML whose adaptation moves the output layer alone.

    phi_{k+1} = phi_k - alpha * grad L(phi_k; support)
    v_U = grad L(phi_U; query),   v_k = v_{k+1} - H(phi_k; support) (alpha * v_{k+1})
    theta <- theta - meta_step_size * sum_t v_0

alpha is inner_step_size in the head and 0 elsewhere. All of theta is learned; the hidden layers are
features that tasks share.

Reference: Raghu et al. 2020, arXiv:1909.09157, section 4.
"""

from __future__ import annotations

from itertools import repeat

from torch import Tensor

from metabench.learning.adaptation import elementwise_path, one_copy_per_task
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


class Hyperparameters(InnerLoop):
    """Defaults are those of FOMAML, so that the two differ in nothing else."""

    meta_batch_size: MetaBatchSize = 3
    queries: Queries = None


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss after the head has adapted.

    Args:
        network: The network.
        theta: ``(run, P)``.
        batch: support ``(run, task, shots, feature)`` and query, x ``(point, feature)`` or
            ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, P)``.
    """
    support, query = batch
    alpha = h.inner_step_size * network.head.to(theta.dtype)  # (P,)
    start = one_copy_per_task(theta, h.meta_batch_size)
    steps = elementwise_path(network, start, support.repeated(h.inner_steps), repeat(alpha))
    *before, adapted = [start, *(phi for _, phi in steps)]
    _, v = network.loss_and_gradient(adapted, *query)  # (run, task, P)
    for phi in reversed(before):
        v = v - network.hessian_product(phi, *support, alpha * v)
    return v.sum(-2)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Adapt the head and predict."""
    head = network.head.to(theta.dtype)
    if question.step_size is None:
        alpha = question.multiple * h.inner_step_size * head
    else:
        alpha = question.step_size[..., None] * head
    return descending_elementwise(network, theta, repeat(alpha), question)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=second_order_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    adaptation=Adaptation(predictions),
)
