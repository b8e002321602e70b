"""Use a trained initialization: adapt it to points of a wave that nobody has seen, and predict the whole curve."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metabench import artifacts
from metabench.adaptation import Points, adapted
from metabench.artifacts import ArtifactError
from metabench.network import Network
from metabench.plans import seeds_of


def read_points(path: Path) -> Points:
    """Read support points from a CSV file with the columns x and y, ``(shots, feature)``, float32.

    Raises:
        ArtifactError: It has no such columns, no rows, or a value that is not a finite number.
    """
    try:
        table = pd.read_csv(path)
        values = table[["x", "y"]].to_numpy(dtype=np.float32)
    except (KeyError, ValueError) as error:
        raise ArtifactError(
            f"points must be a CSV file with the columns x and y, numbers only: {path}: {error}"
        ) from None
    if not len(values) or not np.isfinite(values).all():
        raise ArtifactError(f"points must be one or more rows of finite numbers, got {len(values)} rows: {path}")
    x, y = torch.from_numpy(values).split(1, dim=1)
    return Points(x, y)


def curve(record: Path, seed: int, points: Points, updates: int, step_size: float | None, at: int) -> pd.DataFrame:
    """Adapt one run's initialization to points and predict before and after.

    Args:
        record: A trained record.
        seed: Which of its runs.
        points: Support points, ``(shots, feature)``.
        updates: Full-batch gradient steps.
        step_size: Their size; by default that of the record's own validation.
        at: How many evenly spaced x of the task domain to predict at.

    Returns:
        Columns x, before, after.

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
    phi = adapted(network, theta, repeat(points, updates), step_size or settings["validation"]["step_size"])
    low, high = settings["tasks"]["domain"]
    x = torch.linspace(low, high, at)[:, None]
    columns = {"x": x, "before": network.predict(theta, x), "after": network.predict(phi, x)}
    return pd.DataFrame({name: value[:, 0].numpy() for name, value in columns.items()})
