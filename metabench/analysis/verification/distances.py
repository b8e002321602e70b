"""The distance of two numbers: the absolute logarithm of their ratio."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from metabench.analysis.statistics.losses import ROUNDING, Floats, with_inf_for_nan

TOLERANCE = 0.005
"""Distance within which values agree.

It is three times the largest in results/reference/rounding/deviations.csv.
"""

CEILING = float(np.finfo(np.float32).max)
"""Stands for an infinite loss, so that two infinite losses have the distance 0."""


def logarithms(values: ArrayLike) -> Floats:
    """Return logarithms of losses, no lower than that of `ROUNDING`; a missing one is infinite."""
    return np.asarray(np.log(np.clip(with_inf_for_nan(values), ROUNDING, CEILING)))


def distances(fresh: pd.Series, reference: pd.Series) -> pd.Series:
    """Return the distance of each pair of numbers, row by row."""
    return pd.Series(np.abs(logarithms(fresh) - logarithms(reference)))


def differences(fresh: pd.Series, reference: pd.Series) -> pd.Series:
    """Return infinity where two words differ, row by row, and 0 elsewhere."""
    return pd.Series(np.where(fresh == reference, 0, np.inf))
