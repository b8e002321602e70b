"""Curves of one cell as rows: its validation loss in training and its losses over updates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from metabench.learning.settings import EvaluatedProtocol
from metabench.records.measured import COST_COLUMNS, CellRecord
from metabench.study.protocols import Regions


def history(record: CellRecord) -> pd.DataFrame:
    """Return the validation curve with a row for each seed and evaluation."""
    evaluations, runs = record.validation_loss.shape
    done = np.repeat(record.meta_iterations, runs)
    spent = {COST_COLUMNS[name]: done * count for name, count in record.cell.cost._asdict().items()}
    return pd.DataFrame(
        {
            "algorithm": record.cell.algorithm,
            "cell": record.cell.name,
            "seed": np.tile(record.seeds, evaluations),
            "meta_iteration": done,
            **spent,
            "validation_loss": record.validation_loss.ravel(),
        }
    ).sort_values(["seed", "meta_iteration"], ignore_index=True)


def curves(
    record: CellRecord, regions: Regions, protocols: Mapping[str, EvaluatedProtocol]
) -> pd.DataFrame:
    """Return the adaptation curve: a row for each protocol, step, region, seed, measured update.

    The loss is the mean over the tasks.

    Args:
        record: The measurements of a cell.
        regions: The names of the regions of each protocol.
        protocols: The protocols by name.
    """
    frames = []
    for protocol, parts in regions.items():
        for step in record.steps(protocol):
            losses = record.losses(protocol, step)  # (region, update, run, task)
            updates = protocols[protocol].measured
            index = pd.MultiIndex.from_product(
                [parts, updates, record.seeds],
                names=["region", "update", "seed"],
            )
            frame = pd.DataFrame(
                {"mean": losses.mean(-1).ravel(), "median": np.median(losses, axis=-1).ravel()},
                index,
            )
            sizes = np.tile(record.step_size(protocol, step), len(parts) * len(updates))
            frames.append(frame.reset_index().assign(protocol=protocol, step=step, step_size=sizes))
    head = {"algorithm": record.cell.algorithm, "cell": record.cell.name}
    order = [
        "algorithm",
        "cell",
        "seed",
        "protocol",
        "step",
        "step_size",
        "region",
        "update",
        "mean",
        "median",
    ]
    return pd.concat(frames).assign(**head)[order].sort_values(order[:8], ignore_index=True)
