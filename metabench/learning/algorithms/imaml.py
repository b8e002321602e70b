"""Implicit MAML: the gradient at the minimum of a regularized loss, whatever path led there.

    phi_0 = theta,   phi_{k+1} = phi_k - alpha (grad L(phi_k; support) + lambda (phi_k - theta))
    A v = g,   A = I + H(phi_U; support) / lambda,   g = grad L(phi_U; query)
    theta <- theta - meta_step_size * sum_t v

alpha is inner_step_size, and lambda is regularization. The inner steps approach the minimum phi* of
L(phi; support) + lambda / 2 |phi - theta|^2. There the gradient of the inner loss is 0. So by the
implicit function theorem dphi*/dtheta = A^-1, which is symmetric. Unlike MAML's, the gradient
depends on phi_U alone, not on the steps that led there, nor on whether they converge.

FOMAML's v = g omits A. Conjugate gradients solve A d = g - A g for the correction d = v - g, in
cg_steps steps with one product with H each:

    d = 0,   p = r = g - A g
    a = |r|^2 / p^T A p,   d <- d + a p,   r' = r - a A p
    p <- r' + |r'|^2 / |r|^2 p,   r <- r'

Far from the minimum, A may be indefinite. A direction p with p^T A p <= 0 ends the steps of its
task, as in Newton's method with conjugate gradients.

Note: The authors' code takes its inner steps on the loss alone, then one on the regularization. It
    begins with v = 0, damps A to (1 + c) I + H / (lambda + c'), and does not regularize at test
    time.

Reference: Rajeswaran et al. 2019, arXiv:1909.04630, algorithms 1 and 2;
    https://github.com/aravindr93/imaml_dev.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import (
    Adaptation,
    Algorithm,
    Batch,
    Cost,
    Question,
    descending_elementwise,
    query_points,
    support_and_query,
)
from metabench.learning.fields import Count, Positive
from metabench.learning.hyperparameters import (
    InnerLoop,
    InnerSteps,
    MetaBatchSize,
    Queries,
    Word,
)
from metabench.learning.network import Network
from metabench.learning.step_sizes import Pulled, Size
from metabench.learning.tasks import TaskDistribution


class Hyperparameters(InnerLoop):
    """Steps and regularization are those of the authors' code for Omniglot."""

    meta_batch_size: MetaBatchSize = 3
    inner_steps: InnerSteps = 16
    queries: Queries = None
    regularization: Annotated[
        Positive,
        Field(description="Weight lambda of the squared distance from theta in the inner loss."),
        Word("lambda"),
    ] = 2.0
    cg_steps: Annotated[
        Count, Field(description="Number of steps of conjugate gradients."), Word("cg")
    ] = 5


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count gradients of the inner steps, Hessian products of the system, and a query gradient."""
    # A Hessian product counts as two gradients. The first one is for the right side.
    on_support = h.inner_steps + 2 * (h.cg_steps + 1)
    return Cost(
        tasks=h.meta_batch_size,
        gradient_evaluations=h.meta_batch_size * (on_support + 1),
        point_gradients=h.meta_batch_size * (on_support * h.shots + query_points(h, tasks)),
    )


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the implicit gradient of the query loss at the adapted parameters.

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
    step_size = Pulled(h.inner_step_size, h.regularization)
    phi = network.descend(copies, *support.repeated(h.inner_steps), step_size)
    _, gradient = network.loss_and_gradient(phi, *query)

    def matrix(v: Tensor) -> Tensor:
        """Return A v."""
        return network.hessian_product(phi, *support, v).div_(h.regularization).add_(v)

    correction = _solved(matrix, gradient - matrix(gradient), h.cg_steps)
    return correction.add_(gradient).sum(-2)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Adapt by descent of the regularized loss, and predict."""
    size: Size | None = question.step_size
    if size is None:
        size = question.multiple * h.inner_step_size
    return descending_elementwise(network, theta, Pulled(size, h.regularization), question)


def _solved(matrix: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """Return the result of steps of conjugate gradients on A d = b, all ``(..., P)``.

    Args:
        matrix: Function from a vector to its product with A.
        b: The right sides of a stack of systems.
        steps: Number of steps.
    """
    d, p, r = torch.zeros_like(b), b.clone(), b.clone()
    square = _dot(r, r)
    # A system that is solved up to rounding ends, too: further steps would divide 0 by 0.
    least = torch.finfo(b.dtype).eps ** 2 * square
    ended = torch.zeros_like(square, dtype=torch.bool)
    for _ in range(steps):
        along = matrix(p)
        curvature = _dot(p, along)
        # A diverged system, which is nan, does not end, so it stays nan.
        ended = ended | (curvature <= 0) | (square <= least)
        size = (square / curvature).masked_fill(ended, 0)
        d.addcmul_(size, p)
        r.addcmul_(size, along, value=-1)
        before, square = square, _dot(r, r)
        p.mul_((square / before).masked_fill(ended, 0)).add_(r)
    return d


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner products of vectors ``(..., P)``, ``(..., 1)``."""
    return (a * b).sum(-1, keepdim=True)


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    adaptation=Adaptation(predictions),
)
