"""Convert tensors to files and back: the only module of records that uses torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metabench.learning.settings import EvaluateSettings, TrainSettings
from metabench.learning.training import State
from metabench.records import arrays, artifacts
from metabench.records.artifacts import AGAIN, Arrays, ArtifactError, Header
from metabench.study.jobs import seeds_of


def from_state(state: State) -> Arrays:
    """Return a training state as arrays."""
    tensors = {name: value for name, value in state._asdict().items() if name != "meta_iteration"}
    return {"meta_iteration": np.array([state.meta_iteration]), **from_tensors(tensors)}


def from_tensors(tensors: Mapping[str, Tensor]) -> Arrays:
    """Return named tensors as arrays."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def read_checkpoint(path: Path, settings: TrainSettings, expected: Header) -> State | None:
    """Return the checkpoint that a killed job left.

    Returns:
        None if there is none, or if it cannot be trusted, which is reported.
    """
    if not path.exists():
        return None
    try:
        found, header = artifacts.read(path)
        artifacts.require(path, header, expected)
        return to_state(path, found, settings, header)
    except ArtifactError as error:
        # A checkpoint only saves time, so an invalid one is reported and is not an error.
        print(f"restarted from the beginning: {error}", file=sys.stderr)
        return None


def read_theta(path: Path, settings: EvaluateSettings, seeds: str) -> tuple[Tensor, str]:
    """Return the learned values of a training record, ``(run, M)``, and its content's digest.

    Args:
        path: The record.
        settings: Settings of the evaluation that reads it.
        seeds: The block of seeds it must contain.

    Raises:
        ArtifactError: It is damaged, unfinished, or has a different algorithm, network, block of
            seeds or task distribution. The number of training tasks may differ.
    """
    found, header = artifacts.read(path)
    dumped = settings.model_dump(mode="json")
    # Only these settings of the training reach an evaluation.
    same = ("algorithm", "hyperparameters", "tasks", "network")
    expected = {"kind": "train", "seeds": seeds, **{name: dumped[name] for name in same}}
    recorded = {**header, **header.get("settings", {})}
    # The evaluation's own number of training tasks takes the place of the recorded one, so that it
    # cannot differ: held-out tasks do not depend on it.
    recorded["tasks"] = {
        **recorded.get("tasks", {}),
        "training_tasks": settings.tasks.training_tasks,
    }
    artifacts.require(path, recorded, expected)
    theta = found.get("theta", np.zeros(0))
    shape = (len(seeds_of(seeds)), arrays.learned(settings))
    # A valid digest proves that the file is whole, not that it fits this network.
    if theta.shape != shape or theta.dtype != np.float32:
        raise ArtifactError(
            f"{path} must hold theta float32 {shape}, it has {theta.dtype} {theta.shape}; {AGAIN}"
        )
    require_finished(path, found, header)
    return torch.from_numpy(theta), header["content"]


def require_finished(path: Path, found: Arrays, header: Header) -> None:
    """Raise ArtifactError if a record is a checkpoint."""
    done, total = _done(found), header["settings"]["meta_iterations"]
    if done < total:
        raise ArtifactError(
            f"{path} is a checkpoint after {done} of {total} meta-iterations; {AGAIN}"
        )


def to_state(path: Path, found: Arrays, settings: TrainSettings, header: Header) -> State:
    """Return arrays as a training state.

    Raises:
        ArtifactError: They do not match their header.
    """
    done, total = _done(found), settings.meta_iterations
    runs = len(seeds_of(header["seeds"]))
    arrays.hold(path, found, arrays.state(settings, runs, done))
    if not 0 <= done <= total:
        raise ArtifactError(f"{path} holds {done} of {total} meta-iterations; {AGAIN}")
    tensors = {name: torch.from_numpy(a) for name, a in found.items() if name != "meta_iteration"}
    return State(meta_iteration=done, **tensors)


def _done(found: Arrays) -> int:
    """Return how many meta-iterations a record holds, -1 if it does not say."""
    count = found.get("meta_iteration", np.zeros(0))
    # A count of -1 is below every valid one, so the record is rejected as unfinished.
    return int(count[0]) if count.shape == (1,) else -1
