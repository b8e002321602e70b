"""The worst adaptations: the tail of scores and losses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis.columns import COUNT, NUMBER, Column
from metabench.analysis.measured import Study
from metabench.analysis.statistics.estimates import cvar
from metabench.analysis.statistics.losses import Floats
from metabench.learning.scores import scores

NAME = "tails.csv"
CAPTION = """
The worst adaptations of every cell and baseline after a protocol's last update, on the whole grid:
the mean of the worst tenth and of the worst hundredth (CVaR), of scores and of losses, and the task
with the largest mean loss over the seeds.
"""
COLUMNS = {
    "score_cvar90": Column(NUMBER, "Mean of the worst tenth of all scores."),
    "score_cvar99": Column(NUMBER, "Mean of the worst hundredth of them."),
    "loss_cvar90": Column(
        NUMBER, "Mean of the worst tenth of all losses; inf if one is not finite."
    ),
    "loss_cvar99": Column(NUMBER, "Mean of the worst hundredth of them."),
    "worst_task": Column(COUNT, "The test task with the largest mean score over the seeds."),
    "worst_score": Column(NUMBER, "That score."),
    "worst_loss": Column(NUMBER, "The largest mean loss of a task over the seeds."),
}

KEYS = ["algorithm", "cell", "role", "protocol", "step"]


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    rows = [
        {**place, **_tail(losses, study.baselines[f"test/{place['protocol']}/zero"][0])}
        for place, losses in _final_losses(study)
    ]
    return pd.DataFrame(rows).sort_values(KEYS, ignore_index=True)


def _final_losses(study: Study) -> Iterator[tuple[dict[str, str], Floats]]:
    """Yield a row's names and its losses ``(seed, task)`` after the last update."""
    whole, last = 0, -1
    for protocol in study.protocols:
        for record in study.cells:
            for step in record.steps(protocol):
                losses = record.losses(protocol, step)[whole, last]
                yield {**record.head, "protocol": protocol, "step": step}, losses
        for entrant in study.entrants(protocol):
            yield entrant.head, entrant.losses[whole]


def _tail(losses: Floats, zero: Floats) -> dict[str, Any]:
    """Return the statistics of one row from losses ``(seed, task)`` and the zero predictor's."""
    found = scores(losses, zero)
    of_tasks = found.mean(0)
    return {
        "score_cvar90": cvar(90)(found),
        "score_cvar99": cvar(99)(found),
        "loss_cvar90": cvar(90)(losses),
        "loss_cvar99": cvar(99)(losses),
        "worst_task": int(np.argmax(of_tasks)),
        "worst_score": float(of_tasks.max()),
        "worst_loss": float(losses.mean(0).max()),
    }
