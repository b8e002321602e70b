"""Types and bounds of the fields of settings, wherever settings are declared."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _ascending(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = interval
    if high - low < 1e-6:
        raise ValueError(
            f"an interval must be at least 1e-6 long, its lower end first, got [{low:g}, {high:g}]"
        )
    return interval


# Bounds turn a slip of the keyboard into an error message at once, not into an infinite loss later.
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NotNegative = Annotated[float, Field(ge=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Interval = Annotated[tuple[Number, Number], AfterValidator(_ascending)]


class Model(BaseModel):
    """Base of all models: no unknown keys, no infinite numbers, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
