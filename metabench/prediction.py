"""Use a trained initialization: adapt it to points of a wave that nobody has seen, and predict the whole curve."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metabench import artifacts
from metabench.adaptation import Points, adapted
from metabench.artifacts import ArtifactError
from metabench.network import Network
from metabench.plans import seeds_of


def curve(
    record: Path, seed: int, points: NDArray[np.float32], updates: int, step_size: float | None, at: int
) -> dict[str, NDArray[Any]]:
    """Adapt one run's initialization to points and predict before and after.

    Args:
        record: A trained record.
        seed: Which of its runs.
        points: Support points, ``(shots, 2)``, x and y.
        updates: Full-batch gradient steps.
        step_size: Their size; by default that of the record's own validation.
        at: How many evenly spaced x of the task domain to predict at.

    Returns:
        x, before and after, each ``(at,)``.

    Raises:
        ArtifactError: The file is no trained record, or has no such seed.
    """
    arrays, header = artifacts.read(record)
    if header.get("kind") != "train":
        raise ArtifactError(f"{record} is not a trained record but of kind {header.get('kind')}")
    seeds, settings = seeds_of(header["seeds"]), header["settings"]
    if seed not in seeds:
        raise ArtifactError(f"{record} holds the seeds {header['seeds']}, not {seed}")
    network = Network.of(**settings["network"])
    theta = torch.from_numpy(arrays["theta"][seeds.index(seed)])
    support = Points(*torch.from_numpy(points).split(1, dim=1))
    phi = adapted(network, theta, repeat(support, updates), step_size or settings["validation"]["step_size"])
    low, high = settings["tasks"]["domain"]
    x = torch.linspace(low, high, at)[:, None]
    if not bool(phi.isfinite().all()):
        raise ArtifactError(f"the adapted parameters of seed {seed} in {record} are not finite: it diverged")
    columns = {"x": x, "before": network.predict(theta, x), "after": network.predict(phi, x)}
    return {name: value[:, 0].numpy() for name, value in columns.items()}
