"""Tasks: families, the stream of training tasks, and the banks of held-out tasks.

Axes are always in the order ``(update, run, task, point, feature)``. A family is one file with a
subclass of `TaskDistribution`, which this module registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from metabench.learning.tasks.digits import Digit, DigitsDistribution
from metabench.learning.tasks.distribution import (
    Placement,
    Points,
    Task,
    TaskDistribution,
    around,
    evenly,
    lattice,
    mislabelled,
    scale,
)
from metabench.learning.tasks.multimodal import Multimodal, MultimodalDistribution
from metabench.learning.tasks.plane_wave import PlaneWave, PlaneWaveDistribution
from metabench.learning.tasks.sea_temperature import SeaTemperature, SeaTemperatureDistribution
from metabench.learning.tasks.sine import Sine, SineDistribution
from metabench.learning.tasks.sine_or_line import SineOrLine, SineOrLineDistribution
from metabench.learning.tasks.streams import Bank, TaskBlock, TaskStream

__all__ = [
    "FAMILIES",
    "AnyDistribution",
    "Bank",
    "Digit",
    "DigitsDistribution",
    "Multimodal",
    "MultimodalDistribution",
    "Placement",
    "PlaneWave",
    "PlaneWaveDistribution",
    "Points",
    "SeaTemperature",
    "SeaTemperatureDistribution",
    "Sine",
    "SineDistribution",
    "SineOrLine",
    "SineOrLineDistribution",
    "Task",
    "TaskBlock",
    "TaskDistribution",
    "TaskStream",
    "around",
    "distribution",
    "evenly",
    "lattice",
    "mislabelled",
    "scale",
]

AnyDistribution = Annotated[
    SineDistribution
    | SineOrLineDistribution
    | MultimodalDistribution
    | PlaneWaveDistribution
    | SeaTemperatureDistribution
    | DigitsDistribution,
    Field(discriminator="family"),
]
"""The section `tasks` of a study."""

FAMILIES: dict[str, type[TaskDistribution]] = {
    family.model_fields["family"].default: family
    for family in (
        SineDistribution,
        SineOrLineDistribution,
        MultimodalDistribution,
        PlaneWaveDistribution,
        SeaTemperatureDistribution,
        DigitsDistribution,
    )
}
"""The distribution class of each family."""


def distribution(settings: Mapping[str, Any]) -> TaskDistribution:
    """Return the distribution that a section `tasks` describes.

    Raises:
        ValueError: There is no such family, or the family has no such setting.
    """
    if settings["family"] not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(f"unknown family {settings['family']!r:.60}; choose from {known}")
    return FAMILIES[settings["family"]](**settings)
