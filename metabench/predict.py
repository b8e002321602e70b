"""Use a trained initialization: adapt it to points of a wave that nobody has seen, and predict the
whole curve.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metabench.learning import algorithms
from metabench.learning.algorithms.protocol import Hyperparameters
from metabench.learning.network import Network
from metabench.learning.tasks import Points
from metabench.records import artifacts, forms
from metabench.records.artifacts import ArtifactError, Header
from metabench.study.config import TrainSettings, check
from metabench.study.plans import seeds_of


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
        record: A trained record.
        seed: Which of its runs.
        points: Support points, ``(shots, 2)``, x and y.
        updates: Full-batch gradient steps.
        step_size: Their size; by default the algorithm's own, or that of its validation.
        at: How many evenly spaced x of the task domain to predict at.

    Returns:
        x, before and after, each ``(at,)``.

    Raises:
        ArtifactError: The file is no trained record, or has no such seed.
    """
    arrays, header = artifacts.read(record)
    settings, seeds = _made_from(record, header)
    network, h = (
        Network.of(**settings.network.model_dump()),
        Hyperparameters(**header["settings"]["hyperparameters"]),
    )
    theta = arrays.get("theta", np.zeros(0))
    if theta.dtype != np.float32 or theta.shape != (len(seeds), forms.theta(header["settings"])):
        raise ArtifactError(f"{record} does not hold what the algorithm in its header learns")
    if seed not in seeds:
        raise ArtifactError(f"{record} holds the seeds {header['seeds']}, not {seed}")
    learned = torch.from_numpy(theta[seeds.index(seed)])
    support = Points(*torch.from_numpy(points).split(1, dim=1)).repeated(updates)
    x = torch.linspace(*settings.tasks.domain, at)[:, None]
    size = step_size or settings.validation.step_size
    step = None if size is None else torch.tensor(size)
    predicted = algorithms.load(settings.algorithm).predictions(
        network, learned, support, x, h, step
    )[..., 0]
    if not bool(predicted.isfinite().all()):
        raise ArtifactError(f"what seed {seed} in {record} predicts is not finite: it diverged")
    return {"x": x[:, 0].numpy(), "before": predicted[0].numpy(), "after": predicted[-1].numpy()}


def _made_from(record: Path, header: Header) -> tuple[TrainSettings, tuple[int, ...]]:
    """Return the settings and the seeds of a trained record."""
    if header.get("kind") != "train":
        raise ArtifactError(f"{record} is not a trained record but of kind {header.get('kind')}")
    try:
        return check(TrainSettings, header.get("settings"), "its settings"), seeds_of(
            str(header.get("seeds"))
        )
    except ValueError as error:
        raise ArtifactError(f"{record} has a header that no training job writes: {error}") from None
