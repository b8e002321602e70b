"""The held-out tasks of a study as files, for methods that predict elsewhere.

    test-support        protocol, task, point, x, y       what a method adapts to
    test-query          bank, protocol, task, point, x    what it predicts: no labels
    validation-support  protocol, task, point, x, y       other tasks, with labels, to choose on
    validation-query    protocol, task, point, x, y
    training-support    seed, task, point, x, y           the tasks of training, in order
    training-query      seed, task, point, x, y

Test labels stay here, so that nothing is chosen on them by mistake. They are no secret: the study
file says how they are drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis import frames
from metabench.analysis.columns import of_x
from metabench.learning.predictions import training_tasks
from metabench.records.artifacts import replacing
from metabench.records.predictions import bank_number
from metabench.study.jobs import Study

TRAINING = "training"


class Part(NamedTuple):
    """Points of some tasks: those of a protocol, or the training tasks of all seeds.

    Args:
        file: The table that they belong to.
        protocol: The protocol; none of training tasks.
        bank: Number of the bank, which questions have.
        x: ``(task, point, feature)``, with the seed before the task in training.
        y: ``(task, point, 1)`` likewise; None where it is asked for.
    """

    file: str
    protocol: str | None
    bank: int | None
    x: NDArray[np.float64]
    y: NDArray[np.float64] | None


def export(study: Study, out: Path, training: int, kinds: Sequence[str]) -> list[Path]:
    """Write the files of a study, and return them.

    Args:
        study: The study.
        out: The folder to write into.
        training: How many training tasks of each seed to write; if 0, none.
        kinds: Any of parquet, csv and npz.
    """
    parts = [part for name in study.protocols for part in _held_out(study, name)]
    if training:
        parts += _training(study, training)
    written = []
    for kind in kinds:
        if kind == "npz":
            path = out / "bank.npz"
            with replacing(path) as temporary:
                np.savez_compressed(temporary, **_arrays(parts))
            written.append(path)
            continue
        for file in dict.fromkeys(part.file for part in parts):
            path = out / f"{file}.{kind}"
            rows = pd.concat([_rows(part) for part in parts if part.file == file])
            frames.write(rows.reset_index(drop=True), path, "%.17g")
            written.append(path)
    return written


def _held_out(study: Study, name: str) -> Iterable[Part]:
    """Yield what there is of a protocol."""
    bank = bank_number(study.bank_settings, name)
    for purpose, tasks in study.bank_settings.held_out(name).items():
        x, y = (points.numpy() for points in tasks.query)
        x = np.broadcast_to(x, (*y.shape[:2], x.shape[-1]))  # the grid is the same for all tasks
        yield Part(f"{purpose}-support", name, None, *(p.numpy() for p in tasks.support))
        is_test = purpose == "test"
        yield Part(f"{purpose}-query", name, bank if is_test else None, x, None if is_test else y)


def _training(study: Study, count: int) -> Iterable[Part]:
    """Yield the first training tasks of every seed."""
    shots = max(protocol.shots for protocol in study.protocols.values())
    seeds = tuple(range(study.config.seeds))
    found = training_tasks(study.config.tasks, seeds, count, shots)
    for kind, points in found._asdict().items():
        yield Part(f"{TRAINING}-{kind}", None, None, *(p.numpy() for p in points))


def _rows(part: Part) -> pd.DataFrame:
    """Return a row for each point."""
    shape = part.x.shape[:-1]
    axes = ("seed", "task", "point")[-len(shape) :]
    columns: dict[str, Any] = {}
    if part.bank is not None:
        columns["bank"] = part.bank
    if part.protocol is not None:
        columns["protocol"] = part.protocol
    columns |= {axis: at.ravel() for axis, at in zip(axes, np.indices(shape), strict=True)}
    features = part.x.shape[-1]
    columns |= dict(zip(of_x(features), part.x.reshape(-1, features).T, strict=True))
    if part.y is not None:
        columns["y"] = part.y.ravel()
    return pd.DataFrame(columns)


def _arrays(parts: Iterable[Part]) -> dict[str, Any]:
    """Return the same as arrays: `standard/test-query/x`, and `standard/bank`."""
    found: dict[str, Any] = {}
    for part in parts:
        place = "/".join(filter(None, (part.protocol, part.file)))
        found[f"{place}/x"] = part.x
        if part.y is not None:
            found[f"{place}/y"] = part.y[..., 0]
        if part.bank is not None:
            found[f"{part.protocol}/bank"] = np.array(part.bank)
    return found
