"""Held-out tasks and the losses of predictions on them, whatever made the predictions.

Baselines predict here. Other methods may predict elsewhere, in any language. The same arithmetic
measures both.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from metabench.learning.fields import Model
from metabench.learning.held_out import HeldOut, banks_under, losses
from metabench.learning.randomness import BLOCK
from metabench.learning.settings import Banks, Protocol
from metabench.learning.tasks import AnyDistribution, Points, TaskDistribution, TaskStream


class BankSettings(Model):
    """All that a study's held-out tasks depend on, and with them the losses of predictions."""

    tasks: AnyDistribution
    protocols: dict[str, Protocol]
    banks: Banks

    def held_out(self, name: str) -> dict[str, HeldOut]:
        """Return the held-out tasks of a protocol, by the name of their bank."""
        return banks_under(self.protocols[name], self.tasks, self.banks)

    def points(self, name: str) -> int:
        """Return the number of query points of a task under a protocol."""
        protocol = self.protocols[name]
        return protocol.queries or protocol.distribution(self.tasks).grid_size


def evaluate(settings: BankSettings, predictions: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Measure predictions on the test bank, under every protocol.

    Args:
        settings: Settings of the held-out tasks.
        predictions: ``(run, task, point)`` by protocol, float64.

    Returns:
        Arrays by name, as `metabench.records.arrays` declares them.
    """
    found = {}
    for name, answers in predictions.items():
        tasks = settings.held_out(name)["test"]
        predicted = torch.from_numpy(answers)[..., None]
        found[f"test/{name}"] = losses(predicted, tasks)
    return found


class TrainingTasks(NamedTuple):
    """The first training tasks of several seeds; x and y are ``(run, task, point, feature)``."""

    support: Points
    query: Points


def training_tasks(
    tasks: TaskDistribution, seeds: tuple[int, ...], count: int, shots: int
) -> TrainingTasks:
    """Return the training tasks with which every algorithm starts, in order.

    Args:
        tasks: Distribution of the tasks.
        seeds: Training seeds.
        count: Number of tasks of each seed.
        shots: Number of support points of each task; the query points are the grid.
    """
    stream = TaskStream(tasks, seeds, meta_batch_size=1)
    blocks = [stream.block(number) for number in range(ceil(count / BLOCK))]
    support = _joined([block.support(shots) for block in blocks], count)
    y = _by_run([block.query().y for block in blocks], count)
    return TrainingTasks(support, Points(tasks.grid.expand(*y.shape[:2], -1, -1), y))


def _joined(blocks: list[Points], count: int) -> Points:
    x, y = zip(*blocks, strict=True)
    return Points(_by_run(x, count), _by_run(y, count))


def _by_run(blocks: Any, count: int) -> Tensor:
    """Return ``(run, task, ...)`` from blocks ``(iteration, run, 1, ...)`` of one task each."""
    return torch.cat([block[:, :, 0] for block in blocks])[:count].transpose(0, 1)
