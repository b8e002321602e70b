"""The held-out tasks of a study as files, for methods that predict elsewhere.

`metabench.analysis.bank_schema` has the columns, and `schema.json` describes the files to programs.

Test labels stay here, so that nothing is chosen on them by mistake. They are no secret: the study
file says how they are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis import bank_schema, frames
from metabench.analysis.columns import of_x
from metabench.learning.predictions import training_tasks
from metabench.records.artifacts import replacing, write_text
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

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of y."""
        return ("seed", "task", "point")[-(self.x.ndim - 1) :]


def export(study: Study, out: Path, training: int, kinds: Sequence[str]) -> list[Path]:
    """Write the files of a study, their schema last, and return them.

    Args:
        study: The study.
        out: The folder to write into.
        training: How many training tasks of each seed to write; if 0, none.
        kinds: Any of parquet, csv and npz.
    """
    parts = [part for name in study.protocols for part in _held_out(study, name)]
    if training:
        parts += _training(study, training)
    described: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        if kind == "npz":
            arrays = _arrays(parts)
            values: dict[str, Any] = {name: of.values for name, of in arrays.items()}
            with replacing(out / "bank.npz") as temporary:
                np.savez_compressed(temporary, **values)
            described["bank.npz"] = {"arrays": bank_schema.arrays(arrays)}
            continue
        for file in dict.fromkeys(part.file for part in parts):
            name = f"{file}.{kind}"
            rows = pd.concat([_rows(part) for part in parts if part.file == file])
            frames.write(rows.reset_index(drop=True), out / name, "%.17g")
            described[name] = bank_schema.table(file, list(rows), len(rows))
    schema = bank_schema.whole(study, described)
    write_text(out / bank_schema.NAME, json.dumps(schema, indent=2) + "\n")
    return [out / name for name in (*described, bank_schema.NAME)]


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
    columns: dict[str, Any] = {}
    if part.bank is not None:
        columns["bank"] = part.bank
    if part.protocol is not None:
        columns["protocol"] = part.protocol
    columns |= {axis: at.ravel() for axis, at in zip(part.axes, np.indices(shape), strict=True)}
    features = part.x.shape[-1]
    columns |= dict(zip(of_x(features), part.x.reshape(-1, features).T, strict=True))
    if part.y is not None:
        columns["y"] = part.y.ravel()
    return pd.DataFrame(columns)


def _arrays(parts: Iterable[Part]) -> dict[str, bank_schema.Values]:
    """Return the same as arrays: `standard/test-query/x`, and `standard/bank`."""
    found: dict[str, bank_schema.Values] = {}
    for part in parts:
        place = "/".join(filter(None, (part.protocol, part.file)))
        found[f"{place}/x"] = bank_schema.Values(part.x, (*part.axes, "feature"))
        if part.y is not None:
            found[f"{place}/y"] = bank_schema.Values(part.y[..., 0], part.axes)
        if part.bank is not None:
            found[f"{part.protocol}/bank"] = bank_schema.Values(np.array(part.bank), ())
    return found
