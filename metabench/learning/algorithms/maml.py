"""MAML: differentiate THROUGH the adaptation, which includes its dependence on theta.

    phi_0 = theta,   phi_{k+1} = phi_k - alpha grad L(phi_k; support),    k < U = inner_steps
    v_U = grad L(phi_U; query),   v_k = v_{k+1} - alpha H(phi_k; support) v_{k+1}
    theta <- theta - meta_step_size * sum_t v_0

alpha is inner_step_size. FOMAML omits the Hessians H. The gradients of a meta-batch are summed, as
in the Flux script. With inner_clip, each number of an inner gradient is clipped to +- inner_clip
before the step. A clipped number is constant, so v does not pass through it.

Reference: Finn et al. 2017, arXiv:1703.03400, algorithm 2.
"""

from __future__ import annotations

from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import Algorithm, Batch, second_order_cost, support_and_query
from metabench.learning.hyperparameters import InnerClip, InnerLoop, MetaBatchSize, Queries
from metabench.learning.network import Network


class Hyperparameters(InnerLoop):
    """The defaults are those of FOMAML, so that only the algorithms differ."""

    meta_batch_size: MetaBatchSize = 3
    queries: Queries = None
    inner_clip: InnerClip = None


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss after adaptation.

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
    copies = one_copy_per_task(theta, h.meta_batch_size)
    size = network.clipped(h.inner_step_size, h.inner_clip, theta.dtype)
    descent = *support.repeated(h.inner_steps), size
    along_theta, _ = network.gradient_through(copies, descent, *query)
    return along_theta


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=second_order_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
)
