"""Losses of seeds and tasks as the statistics take them: checked, and nan as inf."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Scale = Literal["raw", "log", "logit"]

# A loss below this is rounding: float32 holds a wave of amplitude 5 to 3e-7, whose square is 9e-14.
ROUNDING = 1e-12
# A loss has no upper bound, a score lies in [0, 1], and a difference of either may be negative.
DOMAIN = {"raw": (-np.inf, np.inf), "log": (0, np.inf), "logit": (0, 1)}


def with_inf_for_nan(losses: ArrayLike) -> Floats:
    """Return the losses as float64 with nan as inf: a NaN loss counts as the worst."""
    x = np.asarray(losses, dtype=np.float64)
    return np.where(np.isnan(x), np.inf, x)


def checked(losses: ArrayLike, scale: Scale) -> Floats:
    """Return the losses ``(seed, task)`` with nan as inf; raise ValueError if they are invalid."""
    x = with_inf_for_nan(losses)
    if x.ndim != 2 or x.size == 0:
        raise ValueError(
            f"losses must be a (seed, task) array with at least one of each; got shape {x.shape}"
        )
    low, high = DOMAIN[scale]
    if x.min() < low or x.max() > high:
        raise ValueError(
            f"values on the {scale} scale must lie in [{low}, {high}]; got {x.min()} to {x.max()}"
        )
    return x


def matched(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    """Return losses a ``(seed, task)`` and b, of the same shape or of one seed.

    Raises ValueError where they do not match.
    """
    x, y = with_inf_for_nan(a), with_inf_for_nan(b)
    if x.ndim != 2 or y.shape not in (x.shape, (1, x.shape[1])):
        raise ValueError(
            f"b must have the (seed, task) shape of a, or one seed; got a of {x.shape}, b of "
            f"{y.shape}"
        )
    return x, y
