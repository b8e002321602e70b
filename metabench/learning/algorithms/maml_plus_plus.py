"""MAML++, as far as it applies here: learned step sizes, and a loss after every inner step.

    phi_{k+1} = phi_k - alpha_k * grad L(phi_k; support)     alpha ``(inner_steps, layers)``
    L = sum_t sum_{k=1..U} w_k L(phi_k; query)               w_k = earlier_losses / U for k < U
    v_k = (v_{k+1} - H(phi_k; support) (alpha_k * v_{k+1})) + w_k grad L(phi_k; query)
    [theta, alpha] <- [theta, alpha] - meta_step_size * dL / d[theta, alpha]

All w_k together are 1. By default they are equal. `annealing` takes those before the last to 0
during training, and `first_order` leaves out H at its beginning. At test time, additional steps use
the sizes of the last one. The cosine decay of the outer step is `meta_schedule: cosine`.

Note: These networks have no batch normalization. In the authors' code both annealings count epochs,
and weights and biases have step sizes of their own.

Reference: Antoniou et al. 2019, arXiv:1810.09502, section 4.
"""

from __future__ import annotations

from typing import Annotated, Self

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
    descending,
    descending_elementwise,
    initial_weights,
    query_points,
    support_and_query,
)
from metabench.learning.hyperparameters import InnerLoop, InnerSteps, MetaBatchSize, Queries, Word
from metabench.learning.network import Network
from metabench.learning.step_sizes import Sizes, Weights
from metabench.learning.tasks import TaskDistribution

Share = Annotated[float, Field(ge=0, le=1)]


class Hyperparameters(InnerLoop):
    """In its source, there are five inner steps."""

    meta_batch_size: MetaBatchSize = 3
    inner_steps: InnerSteps = 5
    queries: Queries = None
    earlier_losses: Annotated[
        Share,
        Field(description="Weight of each query loss before the last, relative to equal weights."),
        Word("earlier losses"),
    ] = 1.0
    annealing: Annotated[
        Share,
        Field(description="Fraction of training in which `earlier_losses` falls to 0, if not 0."),
    ] = 0.0
    first_order: Annotated[
        Share,
        Field(description="Fraction of training, from its start, without second derivatives."),
        Word("first order"),
    ] = 0.0

    def at(self, done: float) -> Self:
        """Return the hyperparameters when a fraction of training is done."""
        if not (self.annealing or self.first_order):
            return self
        left = max(1 - done / self.annealing, 0.0) if self.annealing else 1.0
        now = {
            "earlier_losses": left * self.earlier_losses,
            "first_order": float(done < self.first_order),
        }
        return self.model_copy(update=now)

    @property
    def weights(self) -> Weights:
        """The weights of the query losses."""
        others = self.inner_steps - 1
        last = (self.inner_steps - others * self.earlier_losses) / self.inner_steps
        return Weights(self.earlier_losses / self.inner_steps, last)


def cost(h: Hyperparameters, tasks: TaskDistribution) -> Cost:
    """Count a gradient, a Hessian product and a query gradient for each inner step.

    Nothing less is counted for what only a part of training leaves out.

    Raises:
        ValueError: There is nothing to anneal.
    """
    if h.annealing and (h.inner_steps == 1 or not h.earlier_losses):
        raise ValueError(
            f"annealing needs losses before the last: inner_steps must be 2 or more and "
            f"earlier_losses above 0, got {h.inner_steps} and {h.earlier_losses:g}"
        )
    steps, queries = h.meta_batch_size * h.inner_steps, query_points(h, tasks)
    on_support = 1 if h.first_order == 1 else 3  # a Hessian product counts as two gradients
    return Cost(
        h.meta_batch_size,
        gradient_evaluations=(on_support + 1) * steps,
        point_gradients=steps * (on_support * h.shots + queries),
    )


def begin(network: Network, seeds: tuple[int, ...], h: Hyperparameters) -> Tensor:
    """Return the initial weights of each seed, then inner_step_size for each step and layer."""
    theta = initial_weights(network, seeds, h)
    sizes = theta.new_full(
        (len(seeds), h.inner_steps * len(network.layer_sizes)), h.inner_step_size
    )
    return torch.cat([theta, sizes], dim=-1)


def meta_gradient(network: Network, theta: Tensor, batch: Batch, h: Hyperparameters) -> Tensor:
    """Sum over tasks the gradient of the multi-step loss with respect to theta and alpha.

    Args:
        network: The network.
        theta: [theta, alpha], ``(run, P + inner_steps * layers)``.
        batch: Support sets ``(run, task, shots, feature)`` and query sets, x ``(point, feature)``
            or ``(run, task, point, feature)``, y ``(run, task, point, 1)``.
        h: Hyperparameters. Second derivatives are left out if `first_order` is not 0: see `at`.

    Returns:
        The sum, of theta's shape.
    """
    support, query = batch
    copies = one_copy_per_task(theta, h.meta_batch_size)
    descent = *support.repeated(h.inner_steps), _sizes(network, copies, h, h.inner_steps)
    start = copies[..., : network.parameters]
    along_theta, along_alpha = network.gradient_through(
        start, descent, *query, h.weights, second_order=not h.first_order
    )
    assert along_alpha is not None  # (run, inner_steps, layers)
    return torch.cat([along_theta, along_alpha.flatten(-2)], dim=-1)


def predictions(network: Network, theta: Tensor, question: Question, h: Hyperparameters) -> Tensor:
    """Adapt with the learned step sizes, or by plain descent with a given size, and predict."""
    start = theta[..., : network.parameters]
    if question.step_size is not None:
        return descending(network, start, question, h)
    sizes = _sizes(network, theta, h, len(question.batches.x)).times(question.multiple)
    return descending_elementwise(network, start, sizes, question)


def _sizes(network: Network, theta: Tensor, h: Hyperparameters, steps: int) -> Sizes:
    """Return the step sizes of a number of steps, ``(step, ..., layer)``."""
    alpha = theta[..., network.parameters :].unflatten(-1, (h.inner_steps, -1)).movedim(-2, 0)
    return Sizes(alpha[torch.arange(steps).clamp(max=h.inner_steps - 1)])


ALGORITHM = Algorithm(
    hyperparameters=Hyperparameters,
    cost=cost,
    sample=support_and_query,
    meta_gradient=meta_gradient,
    begin=begin,
    adaptation=Adaptation(predictions),
)
