"""ANIL, almost no inner loop: MAML whose adaptation moves the output layer alone.

    phi_{k+1} = phi_k - alpha * grad L(phi_k; support)      alpha is inner_step_size in the head, 0
    elsewhere
    v_U = grad L(phi_U; query),   v_k = v_{k+1} - H(phi_k; support) (alpha * v_{k+1})
    theta <- theta - meta_step_size * sum_t v_0

All of theta is learned; the hidden layers are features that tasks share.

Reference: Raghu et al. 2020, arXiv:1909.09157, section 4.
"""

from __future__ import annotations

from itertools import chain, repeat

from torch import Tensor

from metabench.learning.adaptation import elementwise_path, one_copy_per_task, predicted
from metabench.learning.algorithms.protocol import Batch, Hyperparameters
from metabench.learning.algorithms.protocol import initial_weights as begin
from metabench.learning.algorithms.protocol import second_order_cost as cost
from metabench.learning.algorithms.protocol import support_and_query as sample
from metabench.learning.network import Network
from metabench.learning.tasks import Points

__all__ = ["begin", "cost", "meta_gradient", "predictions", "sample"]

HYPERPARAMETERS = ("inner_step_size", "inner_steps", "meta_batch_size", "meta_step_size", "shots")
OPTIONS = ("queries",)
STEPS = ("own", "common")


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
    *before, adapted = _path(
        network, one_copy_per_task(theta, h.meta_batch_size), support.repeated(h.inner_steps), alpha
    )
    _, v = network.loss_and_gradient(adapted, *query)  # (run, task, P)
    for phi in reversed(before):
        v = v - network.hessian_product(phi, *support, alpha * v)
    return v.sum(-2)


def predictions(
    network: Network,
    theta: Tensor,
    batches: Points,
    x: Tensor,
    h: Hyperparameters,
    step_size: Tensor | None = None,
    every: bool = True,
) -> Tensor:
    """Adapt the head and predict; see `metabench.learning.algorithms.protocol.Algorithm`."""
    head = network.head.to(theta.dtype)
    alpha = h.inner_step_size * head if step_size is None else step_size[..., None] * head
    return predicted(network, _path(network, theta, batches, alpha), x, every)


def _path(network: Network, theta: Tensor, batches: Points, alpha: Tensor) -> chain[Tensor]:
    """Return phi_0 .. phi_U."""
    return chain(
        [theta], (phi for _, phi in elementwise_path(network, theta, batches, repeat(alpha)))
    )
