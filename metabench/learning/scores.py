"""The score of a prediction: its loss relative to the loss of predicting zero.

    score = min(loss / loss of the zero predictor on the same points, 1),   1 where it is not finite

A score of 0 is perfect. A score of 1 is a *failure*: no better than predicting zero. Scores are
bounded, so a task on which adaptation diverges counts as one failure and does not dominate the
mean. Alternatives: docs/decisions/0013-a-bounded-score.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def scores(losses: ArrayLike, zero: ArrayLike) -> NDArray[np.float64]:
    """Return the scores of losses, given the losses of the zero predictor, which broadcast to them.

    Each score is capped before any mean is taken.

    Example:
        >>> scores([0.5, 4.0, np.nan], [2.0, 2.0, 2.0])
        array([0.25, 1.  , 1.  ])
    """
    loss, reference = np.asarray(losses, np.float64), np.asarray(zero, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        # 0 / 0 counts as perfect: a task whose function is zero can be predicted exactly.
        share = np.where(loss == 0, 0.0, loss / reference)
    return np.fmin(share, 1.0)  # unlike minimum, fmin turns nan into 1
