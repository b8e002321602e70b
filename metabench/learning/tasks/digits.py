"""Handwritten digits: complete an image of 8 x 8 pixels from some of its points.

    y = intensity at x, from 0 (paper) to 1 (ink);   x = (row, column) of the image

The centers of the pixels are the points of the default query grid. A test image may be of a class
that training does not have: `classes` of the study and of a protocol.

Reference: Garnelo et al. 2018, arXiv:1807.01613 (conditional neural processes), section 4.2, for
    image completion as regression. Data: Alpaydin and Kaynak 1998, Optical Recognition of
    Handwritten Digits, UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0
    (DATA.md beside this file).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from metabench.learning.tasks.recorded import RecordedDistribution, interpolated, part, table

FILE = "digits.csv.gz"
SIDE, INK = 8, 16.0
"""Pixels along each side of an image, and the largest intensity in the file."""


@dataclass(frozen=True)
class Digit:
    """A stack of images.

    Args:
        image: Index of the image in the file, ``(..., task)``, int64.
    """

    image: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return y ``(..., task, point, 1)`` at x ``(..., task, point, 2)``."""
        pixels = table(FILE)[:, :-1].reshape(-1, SIDE, SIDE) / INK
        return interpolated(pixels, self.image, x)


def _each_once(classes: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(classes)) < len(classes):
        raise ValueError(f"each class must be given once, got {', '.join(map(str, classes))}")
    # In order, so that equal distributions have equal tasks.
    return tuple(sorted(classes))


Class = Annotated[int, Field(ge=0, le=9)]


class DigitsDistribution(RecordedDistribution):
    """The distribution of images.

    Args:
        grid_points: Number of points of the query grid in each coordinate.
        classes: The digits that images show.
    """

    family: Literal["digits"] = "digits"
    grid_points: Annotated[int, Field(ge=2, le=100)] = SIDE
    classes: Annotated[tuple[Class, ...], Field(min_length=1), AfterValidator(_each_once)] = tuple(
        range(10)
    )

    @property
    def features(self) -> int:
        """Row and column."""
        return 2

    def rows(self, name: str) -> Tensor:
        """Return the indices of the images of a part: of each class, its part of the file."""
        shown = table(FILE)[:, -1]
        return torch.cat([part((shown == digit).nonzero()[:, 0], name) for digit in self.classes])

    def at(self, row: Tensor) -> Digit:
        """Return the images at indices ``(..., task)``."""
        return Digit(row)

    def one(self, *, image: float) -> Digit:  # type: ignore[override]
        """Return one image, ``()``.

        Raises:
            ValueError: There is no such image.
        """
        if image not in range(count := len(table(FILE))):
            raise ValueError(f"image must be a whole number from 0 to {count - 1}, got {image:g}")
        return Digit(torch.tensor(int(image)))
