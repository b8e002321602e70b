"""Use a trained initialization: adapt it to your own points, and predict the whole curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metabench.analysis.columns import of_x
from metabench.learning import algorithms
from metabench.learning.evaluation import Adapter, Step
from metabench.learning.settings import TrainSettings
from metabench.learning.tasks import Points, lattice
from metabench.records import arrays, artifacts
from metabench.records.artifacts import ArtifactError, Header
from metabench.records.running import Running
from metabench.study.cells import Cell
from metabench.study.jobs import seeds_of
from metabench.study.messages import ConfigError, check

POINTS = 100_000
"""The most points of a curve."""


def record_of(running: Running, cell: Cell, seed: int) -> Path:
    """Return the training record of a study that contains a run.

    Raises:
        ArtifactError: The study does not have this seed.
    """
    for block in running.study.blocks:
        if seed in seeds_of(block):
            return running.layout.trained(cell.path, block)
    last = running.study.config.seeds - 1
    raise ArtifactError(f"study {running.study.name} has the seeds 0 to {last}, not {seed}")


def features_of(record: Path) -> int:
    """Return the number of features of x in the tasks of a training record."""
    settings, _ = _made_from(record, artifacts.read_header(record))
    return settings.tasks.features


def curve(
    record: Path,
    seed: int,
    points: NDArray[np.float32],
    updates: int,
    step_size: float | None,
    at: int,
) -> dict[str, NDArray[Any]]:
    """Adapt one run's initialization to points and predict before and after.

    Args:
        record: A training record.
        seed: Which of its runs.
        points: Support points, ``(shots, feature + 1)``: x, then y.
        updates: Full-batch gradient steps.
        step_size: Their size; by default the algorithm's own, or the one used in its validation.
        at: How many evenly spaced values of each feature of x to predict at, on the task domain.

    Returns:
        x (or x1, x2, ... where it has several features), before and after, each ``(point,)``.

    Raises:
        ArtifactError: The file is not a training record, or does not have this seed.
    """
    found, header = artifacts.read(record)
    settings, seeds = _made_from(record, header)
    theta = found.get("theta", np.zeros(0))
    if theta.dtype != np.float32 or theta.shape != (len(seeds), arrays.learned(settings)):
        raise ArtifactError(f"{record} does not hold what the algorithm in its header learns")
    if seed not in seeds:
        raise ArtifactError(f"{record} has the seeds {header['seeds']}, not {seed}")

    features = settings.tasks.features
    if at**features > POINTS:
        raise ConfigError(f"a curve has {POINTS} points at most, got {at} to the {features} (at)")
    support = Points(*torch.from_numpy(points).split([features, 1], dim=1)).repeated(updates)
    x = lattice(settings.tasks.domain, at, features).float()
    size = step_size or settings.validation.step
    step = Step(None if size is None else torch.tensor(size))
    adaptation = algorithms.load(settings.algorithm).adaptation
    adapter = Adapter(adaptation, settings.shape, settings.hyperparameters)
    learned = torch.from_numpy(theta[seeds.index(seed)])
    predicted = adapter.predict(learned, support, x, step)[..., 0]
    if not bool(predicted.isfinite().all()):
        raise ArtifactError(f"what seed {seed} in {record} predicts is not finite: it diverged")
    columns = dict(zip(of_x(features), x.numpy().T, strict=True))
    return {**columns, "before": predicted[0].numpy(), "after": predicted[-1].numpy()}


def _made_from(record: Path, header: Header) -> tuple[TrainSettings, tuple[int, ...]]:
    """Return the settings and the seeds of a training record.

    Raises:
        ArtifactError: It is not one, or its algorithm is a file that has since moved or changed.
    """
    if header.get("kind") != "train":
        raise ArtifactError(f"{record} is not a trained record but of kind {header.get('kind')}")
    content = dict(header.get("settings", {}))
    given = content.pop("hyperparameters", {})
    wrong_header = f"{record} has an invalid header for a training record"
    try:
        seeds = seeds_of(str(header.get("seeds")))
    except ValueError as error:
        raise ArtifactError(f"{wrong_header}: {error}") from None
    try:
        settings = check(TrainSettings, {**content, "hyperparameters": {}}, "its settings")
        algorithm = algorithms.load(settings.algorithm)
        h = check(algorithm.hyperparameters, given, "its hyperparameters")
        source = algorithms.source_digest(settings.algorithm)
    except ConfigError as error:
        raise ArtifactError(f"{wrong_header}: {error}") from None
    except ValueError as error:
        raise ArtifactError(f"{record} cannot be used: {error}") from None
    if source != header.get("algorithm_file"):
        raise ArtifactError(
            f"{settings.algorithm} has changed since {record} was trained with it; restore the "
            f"file, or train again"
        )
    return settings.model_copy(update={"hyperparameters": h}), seeds
