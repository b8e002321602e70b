"""What MLflow shows of predictions that were made elsewhere: a run for each of their seeds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metabench.analysis.tables.tasks import NO_SEED
from metabench.learning.scores import scores
from metabench.records import artifacts
from metabench.records.artifacts import Arrays
from metabench.records.measured import PredictionsRecord
from metabench.records.running import Running
from metabench.views.tracking import view
from metabench.views.tracking.contents import Content, Point


def runs(running: Running, name: str) -> dict[int, Content]:
    """Return what each run of predictions shows, by seed; `NO_SEED` where they have none."""
    record, baselines = running.reader.predictions(name), running.reader.baselines()
    header = artifacts.read_header(running.layout.predictions(name))
    params = {
        "study": running.study.name,
        "algorithm": name,
        "cell": "-",
        "role": "predictions",
        "predictions": running.study.predictions[name].predictions,
    }
    return {
        seed: Content(
            name=f"{name}, seed {seed}" if len(record.seeds) else name,
            params=params | {"seed": str(seed)},
            points=list(_points(running, record, run, baselines)),
            tags={"status": "ok", "predictions.answers": header["answers"]},
            files={},
        )
        for run, seed in enumerate(record.seeds.tolist() or [NO_SEED])
    }


def _points(
    running: Running, record: PredictionsRecord, run: int, baselines: Arrays
) -> Iterator[Point]:
    """Yield a run's score under each protocol, and its mean and median loss if they are finite."""
    for protocol in running.study.single_protocols:
        losses = record.losses[f"test/{protocol}"][0, run]
        zero = baselines[f"test/{protocol}/zero"][0]
        yield Point(view.score(protocol), float(scores(losses, zero).mean()))
        for kind, value in (("mean", np.mean(losses)), ("median", np.median(losses))):
            if np.isfinite(value):
                yield Point(f"{protocol}/final_{kind}", float(value))
