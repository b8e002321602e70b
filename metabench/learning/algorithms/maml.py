"""MAML: differentiate THROUGH the adaptation, and so see how a move of theta moves what is adapted
from it.

    phi_0 = theta,   phi_{k+1} = phi_k - alpha grad L(phi_k; support)      inner_steps steps of
    inner_step_size
    v_U = grad L(phi_U; query),   v_k = v_{k+1} - alpha H(phi_k; support) v_{k+1}
    theta <- theta - meta_step_size * sum_t v_0

FOMAML leaves the Hessians H out. The gradients of a meta-batch are summed, as in the Flux script.

Reference: Finn et al. 2017, arXiv:1703.03400, algorithm 2.
"""

from __future__ import annotations

from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task, path
from metabench.learning.algorithms.protocol import Batch, Hyperparameters
from metabench.learning.algorithms.protocol import descending as predictions
from metabench.learning.algorithms.protocol import initial_weights as begin
from metabench.learning.algorithms.protocol import second_order_cost as cost
from metabench.learning.algorithms.protocol import support_and_query as sample
from metabench.learning.network import Network

__all__ = ["begin", "cost", "meta_gradient", "predictions", "sample"]

HYPERPARAMETERS = ("inner_step_size", "inner_steps", "meta_batch_size", "meta_step_size", "shots")
OPTIONS = ("queries",)
STEPS = ("own", "common")


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss after adaptation, with respect to the
    initialization.

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
    copies = one_copy_per_task(theta, h.meta_batch_size)
    *before, adapted = path(network, copies, support.repeated(h.inner_steps), h.inner_step_size)
    _, v = network.loss_and_gradient(adapted, *query)  # (run, task, P)
    for phi in reversed(before):
        v = v - h.inner_step_size * network.hessian_product(phi, *support, v)
    return v.sum(-2)
