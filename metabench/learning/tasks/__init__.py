"""Tasks: the families of their distributions, the stream of training tasks, and the banks of
held-out ones.

Axis order everywhere: ``(update, run, task, point, feature)``. A family is one file with one class,
named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from metabench.learning.tasks.distribution import Points, Task, TaskDistribution, scale
from metabench.learning.tasks.sine import Sine, SineDistribution
from metabench.learning.tasks.sine_or_line import SineOrLine, SineOrLineDistribution
from metabench.learning.tasks.streams import Bank, TaskBlock, TaskStream

__all__ = [
    "FAMILIES",
    "AnyDistribution",
    "Bank",
    "Points",
    "Sine",
    "SineDistribution",
    "SineOrLine",
    "SineOrLineDistribution",
    "Task",
    "TaskBlock",
    "TaskDistribution",
    "TaskStream",
    "distribution",
    "scale",
]

AnyDistribution = Annotated[
    SineDistribution | SineOrLineDistribution, Field(discriminator="family")
]
"""What the section `tasks` of a study may be."""

FAMILIES: dict[str, type[TaskDistribution]] = {
    family.model_fields["family"].default: family
    for family in (SineDistribution, SineOrLineDistribution)
}
"""The class of each family."""


def distribution(settings: Mapping[str, Any]) -> TaskDistribution:
    """Return the distribution that the section `tasks` of a study spells; raise ValueError as its
    class does.
    """
    return FAMILIES[settings["family"]](**settings)
