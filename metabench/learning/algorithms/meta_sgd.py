"""Meta-SGD: learn the initialization, and the size and sign of each parameter's inner step.

    phi_{k+1} = phi_k - alpha * grad L(phi_k; support)      alpha ``(P,)`` begins at inner_step_size
    v_U = grad L(phi_U; query),   v_k = v_{k+1} - H(phi_k; support) (alpha * v_{k+1})
    theta <- theta - meta_step_size * sum_t v_0
    alpha <- alpha + meta_step_size * sum_t sum_k grad L(phi_k; support) * v_{k+1}

The learned vector is [theta, alpha], twice as long as theta. MAML is the special case of a constant
alpha. Without `second_order`, H is left out.

Reference: Li et al. 2017, arXiv:1707.09835, algorithm 1, which takes one inner step.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
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
from metabench.learning.hyperparameters import InnerLoop, MetaBatchSize, Queries, Word
from metabench.learning.network import Network
from metabench.learning.step_sizes import Sizes


class Hyperparameters(InnerLoop):
    """In its source, there is one inner step."""

    meta_batch_size: MetaBatchSize = 3
    queries: Queries = None
    second_order: Annotated[
        bool, Field(description="Whether second derivatives are taken."), Word("second order")
    ] = True


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, then inner_step_size for each weight."""
    theta = initial_weights(network, seeds, h)
    return torch.cat([theta, torch.full_like(theta, h.inner_step_size)], dim=-1)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the query loss after adaptation, for theta and alpha.

    Args:
        network: The network.
        theta: [theta, alpha], ``(run, 2 P)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters.

    Returns:
        The sum, ``(run, 2 P)``.
    """
    support, query = batch
    copies, alpha = one_copy_per_task(theta, h.meta_batch_size).chunk(2, dim=-1)
    descent = *support.repeated(h.inner_steps), Sizes(alpha[None])
    along_theta, along_alpha = network.gradient_through(
        copies, descent, *query, second_order=h.second_order
    )
    assert along_alpha is not None  # (run, 1, P)
    return torch.cat([along_theta, along_alpha.squeeze(-2)], dim=-1)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Adapt with the learned step sizes, or by plain descent with a given size, and predict."""
    start, alpha = theta.chunk(2, dim=-1)
    if question.step_size is not None:
        return descending(network, start, question, h)
    return descending_elementwise(network, start, Sizes(question.multiple * alpha[None]), question)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=second_order_cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions),
)
