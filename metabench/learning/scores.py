"""The score of a prediction: its loss beside that of predicting zero.

    score = min(loss / loss of the zero predictor on the same points, 1),   1 where it is not finite

0 is perfect, and 1 is no better than to say nothing at all: it *failed*. A score is bounded, so one
task on which adaptation explodes counts as one failure, and not as all that a mean says. Why this
one: docs/decisions/0013-a-bounded-score.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def scores(losses: ArrayLike, zero: ArrayLike) -> NDArray[np.float64]:
    """Return the scores of losses, given those of the zero predictor, which broadcast to them.

    Each loss is capped before anything is averaged.

    Example:
        >>> scores([0.5, 4.0, np.nan], [2.0, 2.0, 2.0])
        array([0.25, 1.  , 1.  ])
    """
    loss, reference = np.asarray(losses, np.float64), np.asarray(zero, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(loss == 0, 0.0, loss / reference)  # also where the function itself is zero
    return np.fmin(share, 1.0)
