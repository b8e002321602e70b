"""The inner loop, which exists once.

Training uses its last parameters, evaluation measures the predictions of some or all of them.

    phi_0 = theta,    phi_{u+1} = phi_u - alpha grad L(phi_u; batch_u)

Reference: Finn et al. 2017, arXiv:1703.03400, equation 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from metabench.learning.network import Network
from metabench.learning.optimizers import INNER_OPTIMIZERS
from metabench.learning.step_sizes import StepSize, pulled
from metabench.learning.tasks import Points


def one_copy_per_task(theta: Tensor, tasks: int) -> Tensor:
    """Repeat the learned values of each run ``(run, M)`` for its tasks, ``(run, task, M)``.

    Each task needs its own copy. Otherwise broadcasting would silently sum the gradients of
    different tasks. The copies are views, so no memory is taken.
    """
    return theta.unsqueeze(-2).expand(*(-1,) * (theta.dim() - 1), tasks, -1)


def mean_over_tasks(phi: Tensor) -> Tensor:
    """Average adapted parameters ``(run, task, P)`` of each run over its tasks, ``(run, P)``.

    With one task, the mean is skipped: torch takes three times as long for the mean over an axis of
    length one as for a subtraction.
    """
    return phi.squeeze(-2) if phi.shape[-2] == 1 else phi.mean(-2)


def adapted(
    network: Network,
    phi: Tensor,
    batches: Points,
    step_size: StepSize,
    optimizer: str = "sgd",
) -> Tensor:
    """Take one gradient step on each batch and return the last parameters.

    Args:
        network: The network.
        phi: phi_0, the initial parameters, ``(..., P)``. Not changed.
        batches: Points of each step, ``(step, ..., point, feature)``. For full-batch descent, see
            `Points.repeated`.
        step_size: As in `Network.descend`.
        optimizer: A key of `metabench.learning.optimizers.INNER_OPTIMIZERS`.

    Returns:
        phi_U, ``(..., P)``.
    """
    if optimizer == "sgd":
        return network.descend(phi, *batches, step_size)
    *_, last = path(network, phi, batches, step_size, optimizer)
    return last


def predictions(
    network: Network,
    phi: Tensor,
    batches: Points,
    step_size: StepSize,
    x: Tensor,
    optimizer: str = "sgd",
    measured: Sequence[int] | None = None,
) -> Tensor:
    """Take the steps of `adapted` and return the predictions of phi_0 .. phi_U, or of some of them.

    Args:
        network: The network.
        phi: As in `adapted`.
        batches: As in `adapted`.
        step_size: As in `adapted`.
        x: Query points, ``(..., point, feature)``.
        optimizer: As in `adapted`.
        measured: Numbers of steps after which to predict, ascending; by default all.

    Returns:
        ``(measured, ..., point, output)``.
    """
    if optimizer == "sgd":
        return network.predict_along(phi, (*batches, step_size), x, measured)
    return predicted(network, path(network, phi, batches, step_size, optimizer), x, measured)


def path(
    network: Network,
    phi: Tensor,
    batches: Points,
    step_size: StepSize,
    optimizer: str = "sgd",
) -> Iterator[Tensor]:
    """Yield phi_0 .. phi_U of the steps of `adapted`."""
    rule = INNER_OPTIMIZERS[optimizer]
    memory, start = phi.new_zeros(rule.moments, *phi.shape), phi
    yield phi
    for done, batch in enumerate(batches.unbind()):
        _, gradient = network.loss_and_gradient(phi, *batch)
        used = network.used(pulled(gradient, phi, start, step_size), step_size)
        direction, memory = rule.direction(used, memory, done)
        phi = network.stepped(phi, direction, step_size, done)
        yield phi


def predicted(
    network: Network, parameters: Iterable[Tensor], x: Tensor, measured: Sequence[int] | None = None
) -> Tensor:
    """Return the predictions at x of a sequence of parameters ``(..., P)``, or of some of them.

    Returns:
        ``(measured, ..., point, output)``.
    """
    wanted = (phi for k, phi in enumerate(parameters) if measured is None or k in measured)
    return torch.stack([network.predict(phi, x) for phi in wanted])
