"""Sea temperatures: the course of one year off the coast of Peru, from some of its points.

    y = temperature - 23 degrees Celsius,   x = month of the year

The monthly means of January to December are at x = -5 to 5. All years have a season in common, and
in some, those of El Nino, the sea is more than 3 degrees warmer than in others.

Reference: none as a task. Data: ERSST.V3B, region Nino 1+2 (0 to 10 degrees south, 80 to 90 degrees
    west), 1950 to 2010, of the National Oceanic and Atmospheric Administration; public domain
    (DATA.md beside this file).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from metabench.learning.tasks.recorded import RecordedDistribution, interpolated, part, table

FILE = "sea_temperature.csv"
USUAL = 23.0
"""About the mean temperature of all years, degrees Celsius."""


@dataclass(frozen=True)
class SeaTemperature:
    """A stack of years.

    Args:
        row: Index of the year in the file, ``(..., task)``, int64.
    """

    row: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return y at x ``(..., task, point, feature)``, of the same shape."""
        return interpolated(table(FILE)[:, 1:] - USUAL, self.row, x)


class SeaTemperatureDistribution(RecordedDistribution):
    """The distribution of years.

    Args:
        grid_points: Number of points of the query grid; 56 divide each month into five.
    """

    family: Literal["sea-temperature"] = "sea-temperature"
    grid_points: Annotated[int, Field(ge=2, le=10_000)] = 56

    def rows(self, name: str) -> Tensor:
        """Return the indices of the years of a part."""
        return part(torch.arange(len(table(FILE))), name)

    def at(self, row: Tensor) -> SeaTemperature:
        """Return the years at indices ``(..., task)``."""
        return SeaTemperature(row)

    def one(self, *, year: float) -> SeaTemperature:  # type: ignore[override]
        """Return one year, ``()``.

        Raises:
            ValueError: The data have no such year.
        """
        years = table(FILE)[:, 0]
        if year not in years.tolist():
            raise ValueError(
                f"year must be a whole number from {years[0]:g} to {years[-1]:g}, got {year:g}"
            )
        return SeaTemperature((years == year).nonzero()[0, 0])
