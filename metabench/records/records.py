"""From tensors to tables: the only module that knows both sides.

Training and evaluation end in files of arrays (`metabench.records.artifacts`); here they are
written from tensors and read back, checked against the study that asks for them, as NumPy arrays
with one row a run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.learning import engine
from metabench.records import artifacts
from metabench.records.artifacts import AGAIN, Arrays, ArtifactError, Header
from metabench.records.provenance import config_digest, made_from
from metabench.study import plans
from metabench.study.config import STEPS, StudyConfig
from metabench.study.plans import Cell

if TYPE_CHECKING:
    from torch import Tensor

    from metabench.learning.training import State

REGIONS = ("all", "seen", "unseen")
"""Parts of the query grid, in the order of the evaluation's region axis."""

COST_COLUMNS = {
    "tasks": "tasks_seen",
    "gradient_evaluations": "gradient_evaluations",
    "point_gradients": "point_gradients",
}
"""Column of each field of `metabench.learning.algorithms.protocol.Cost`."""

NUMERICS = ("torch", "numpy")
"""The packages whose version a number may depend on."""


def training_header(settings: Mapping[str, Any], seeds: str) -> Header:
    """Return the header of a training job's artefacts."""
    code = plans.train_code(settings["algorithm"])
    return made_from("train", settings, code, NUMERICS, engine=engine.name(), seeds=seeds)


def evaluation_header(settings: Mapping[str, Any], seeds: str, theta: str) -> Header:
    """Return the header of an evaluation; `theta` is the content digest of the trained record."""
    code = plans.evaluate_code(settings["algorithm"])
    return made_from(
        "evaluate", settings, code, NUMERICS, engine=engine.name(), seeds=seeds, theta=theta
    )


def baselines_header(settings: Mapping[str, Any]) -> Header:
    """Return the header of the baselines' record."""
    return made_from("baselines", settings, plans.baselines_code(), NUMERICS)


def from_state(state: State) -> Arrays:
    """Return a training state as arrays."""
    return {
        "meta_iteration": np.array([state.meta_iteration]),
        "theta": state.theta.numpy(),
        "memory": state.memory.numpy(),
        "diverged_at": state.diverged_at.numpy(),
        "validation_loss": state.validation_loss.numpy(),
    }


def read_checkpoint(path: Path, expected: Header) -> State | None:
    """Return the state a killed job left, or None if there is none or it cannot be trusted (which
    is said).
    """
    if not path.exists():
        return None
    try:
        arrays, header = artifacts.read(path)
        artifacts.require(path, header, expected)
        return _state(path, arrays, header)
    except ArtifactError as error:
        print(f"starting afresh: {error}", file=sys.stderr)
        return None


def read_theta(path: Path, settings: Mapping[str, Any], seeds: str) -> tuple[Tensor, str]:
    """Return what the runs of a trained record learned, ``(run, M)``, and the digest of its
    content.

    Args:
        path: The record.
        settings: Of the evaluation that asks for it.
        seeds: The block of seeds it must hold.

    Raises:
        ArtifactError: It is damaged, unfinished, or of another study, algorithm, network, task
            distribution or block.
    """
    arrays, header = artifacts.read(path)
    same = {
        name: settings[name]
        for name in ("study", "algorithm", "hyperparameters", "tasks", "network")
    }
    artifacts.require(
        path, {**header, **header.get("settings", {})}, {"kind": "train", "seeds": seeds, **same}
    )
    return _final(path, arrays, header).theta, header["content"]


def _final(path: Path, arrays: Arrays, header: Header) -> State:
    """Return the state of a trained record; raise ArtifactError where it is that of a checkpoint,
    or none.
    """
    state, total = _state(path, arrays, header), header["settings"]["meta_iterations"]
    if state.meta_iteration < total:
        raise ArtifactError(
            f"{path} is a checkpoint after {state.meta_iteration} of {total} meta-iterations; {AGAIN}"
        )
    return state


def _state(path: Path, arrays: Arrays, header: Header) -> State:
    """Return arrays as a training state; raise ArtifactError where they cannot be one of their own
    header.
    """
    import torch

    from metabench.learning.training import State
    from metabench.records import forms

    settings, runs = header["settings"], len(plans.seeds_of(header["seeds"]))
    done = (
        int(arrays["meta_iteration"][0])
        if arrays.get("meta_iteration", np.zeros(0)).shape == (1,)
        else -1
    )
    forms.hold(path, arrays, forms.state(settings, runs, done))
    if not 0 <= done <= settings["meta_iterations"]:
        raise ArtifactError(
            f"{path} holds {done} of {settings['meta_iterations']} meta-iterations; {AGAIN}"
        )
    tensors = {
        name: torch.from_numpy(array) for name, array in arrays.items() if name != "meta_iteration"
    }
    return State(meta_iteration=done, **tensors)


def from_tensors(tensors: Mapping[str, Tensor]) -> Arrays:
    """Return named tensors as arrays."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


@dataclass(frozen=True)
class Paths:
    """Where a study's files are.

    Args:
        root: The folder of the study, for instance ``results/flux``.
    """

    root: Path

    def trained(self, cell: Cell, block: str) -> Path:
        """Return the record of a training job."""
        return self.root / "train" / cell.algorithm / cell.id / f"{block}.safetensors"

    def evaluated(self, cell: Cell, block: str) -> Path:
        """Return the record of an evaluation job."""
        return self.root / "evaluate" / cell.algorithm / cell.id / f"{block}.safetensors"

    def checkpoint(self, cell: Cell, block: str) -> Path:
        """Return where a training job keeps its state."""
        return self.root / "checkpoints" / cell.algorithm / cell.id / f"{block}.safetensors"

    @property
    def baselines(self) -> Path:
        """Return the record of the baselines."""
        return self.root / "baselines.safetensors"


@dataclass(frozen=True)
class CellRecord:
    """Everything measured of one cell, or of one block of its seeds.

    Args:
        cell: The cell.
        seeds: ``(run,)``.
        theta: ``(run, M)``.
        diverged_at: First meta-iteration after which theta was not finite, 0 if never, ``(run,)``.
        meta_iterations: Of the validation curve, ``(evaluation,)``.
        validation_loss: ``(evaluation, run)``.
        evaluation: The arrays of `metabench.learning.evaluation.evaluate`, by name.
        digest: Of the arrays it was read from.
    """

    cell: Cell
    seeds: NDArray[np.int64]
    theta: NDArray[np.float32]
    diverged_at: NDArray[np.int64]
    meta_iterations: NDArray[np.int64]
    validation_loss: NDArray[np.float64]
    evaluation: Arrays
    digest: str

    @property
    def head(self) -> dict[str, str]:
        """The columns that name the cell in a table."""
        return {"algorithm": self.cell.algorithm, "cell": self.cell.id, "role": self.cell.role}

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Whether each run's theta, or its loss before any adaptation, is not finite, ``(run,)``."""
        tests = [losses for name, losses in self.evaluation.items() if name.startswith("test/")]
        lost = [~np.isfinite(losses[0, 0]).all(-1) for losses in tests]  # whole grid, update 0
        return np.any([self.diverged_at > 0, *lost], axis=0)

    def steps(self, protocol: str) -> list[str]:
        """Return the step sizes a protocol was evaluated at, of own, common and tuned."""
        prefix = f"test/{protocol}/"
        return sorted(
            (name.removeprefix(prefix) for name in self.evaluation if name.startswith(prefix)),
            key=STEPS.index,
        )

    def losses(self, protocol: str, step: str) -> NDArray[np.float64]:
        """Return test losses ``(region, update, run, task)``; what is not a number counts as
        infinite.
        """
        return _infinite(self.evaluation[f"test/{protocol}/{step}"])

    def validation(self, protocol: str, step: str) -> NDArray[np.float64]:
        """Return each run's mean validation loss at the protocol's last update, ``(run,)``."""
        return _infinite(self.evaluation[f"validation/{protocol}/{step}"]).mean(-1)

    def step_size(self, protocol: str, step: str) -> NDArray[np.float64]:
        """Return each run's step size of adaptation, ``(run,)``."""
        return self.evaluation[f"step_size/{protocol}/{step}"]


def _infinite(losses: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(losses.astype(np.float64), nan=np.inf, posinf=np.inf)


def trained_share(paths: Paths, config: StudyConfig, cell: Cell, block: str) -> float:
    """Return which share of a training job is done, by the files it leaves."""
    expected = training_header(plans.train_settings(config, cell), block)
    if _is(paths.trained(cell, block), expected):
        return 1.0
    checkpoint = paths.checkpoint(cell, block)
    if not _is(checkpoint, expected):
        return 0.0
    try:
        return _state(checkpoint, *artifacts.read(checkpoint)).meta_iteration / max(
            cell.meta_iterations, 1
        )
    except ArtifactError:
        return 0.0


def evaluated_share(paths: Paths, config: StudyConfig, cell: Cell, block: str) -> float:
    """Return whether an evaluation job is done, as 0 or 1, by the file it leaves."""
    expected = evaluation_header(plans.evaluate_settings(config, cell), block, "")
    return float(
        _is(paths.evaluated(cell, block), {k: v for k, v in expected.items() if k != "theta"})
    )


def _is(path: Path, expected: Header) -> bool:
    try:
        artifacts.require(path, artifacts.read_header(path), expected)
    except ArtifactError:
        return False
    return True


def read_block(paths: Paths, config: StudyConfig, cell: Cell, block: str) -> CellRecord:
    """Read one block of a cell's seeds.

    Raises:
        ArtifactError: A file is missing, damaged, or made from other settings, source or versions.
    """
    from metabench.records import forms

    trained, header = artifacts.read(path := paths.trained(cell, block))
    artifacts.require(path, header, training_header(plans.train_settings(config, cell), block))
    _final(path, trained, header)
    evaluation, evaluation_digest = artifacts.read(path := paths.evaluated(cell, block))
    settings, seeds = plans.evaluate_settings(config, cell), plans.seeds_of(block)
    artifacts.require(
        path, evaluation_digest, evaluation_header(settings, block, header["content"])
    )
    forms.hold(path, evaluation, forms.evaluation(settings, len(seeds)))
    interval, count = config.validation.interval, len(trained["validation_loss"])
    return CellRecord(
        cell=cell,
        seeds=np.array(seeds),
        theta=trained["theta"],
        diverged_at=trained["diverged_at"],
        meta_iterations=np.minimum(np.arange(count) * interval, cell.meta_iterations),
        validation_loss=_infinite(trained["validation_loss"]),
        evaluation=evaluation,
        digest=config_digest([header["content"], evaluation_digest["content"]]),
    )


def read_cell(paths: Paths, config: StudyConfig, cell: Cell) -> CellRecord:
    """Read all seeds of a cell; raise as `read_block` does."""
    return join([read_block(paths, config, cell, block) for block in plans.seed_blocks(config)])


def join(blocks: list[CellRecord]) -> CellRecord:
    """Join blocks of seeds along the run axis."""
    first = blocks[0]
    return CellRecord(
        cell=first.cell,
        seeds=np.concatenate([b.seeds for b in blocks]),
        theta=np.concatenate([b.theta for b in blocks]),
        diverged_at=np.concatenate([b.diverged_at for b in blocks]),
        meta_iterations=first.meta_iterations,
        validation_loss=np.concatenate([b.validation_loss for b in blocks], axis=1),
        evaluation={
            n: np.concatenate([b.evaluation[n] for b in blocks], axis=_run_axis(n))
            for n in first.evaluation
        },
        digest=config_digest([b.digest for b in blocks]),
    )


def _run_axis(name: str) -> int:
    """Return the run axis of an array of `metabench.learning.evaluation.evaluate`."""
    return {"test": 2, "validation": 0, "step_size": 0, "tuning": 1, "showcase": 1}[
        name.split("/")[0]
    ]


def contents(paths: Paths, config: StudyConfig) -> str:
    """Return a digest of the content of all records of a study, by their headers; raise as
    `read_block` does.
    """
    files = [
        file
        for job in plans.train_jobs(config)
        for file in (paths.trained(*job), paths.evaluated(*job))
    ]
    return config_digest(
        [artifacts.read_header(path)["content"] for path in [*files, paths.baselines]]
    )


def read_baselines(paths: Paths, config: StudyConfig) -> Arrays:
    """Read the baselines' losses ``(region, task)`` by ``test/PROTOCOL/NAME``; raise as
    `read_block` does.
    """
    from metabench.records import forms

    arrays, header = artifacts.read(paths.baselines)
    settings = plans.baseline_settings(config)
    artifacts.require(paths.baselines, header, baselines_header(settings))
    forms.hold(paths.baselines, arrays, forms.baselines(settings))
    return arrays


def history(record: CellRecord) -> pd.DataFrame:
    """Return the validation curve with a row for each seed and evaluation."""
    evaluations, runs = record.validation_loss.shape
    done = np.repeat(record.meta_iterations, runs)
    spent = {COST_COLUMNS[name]: done * count for name, count in record.cell.cost._asdict().items()}
    return pd.DataFrame(
        {
            "algorithm": record.cell.algorithm,
            "cell": record.cell.id,
            "seed": np.tile(record.seeds, evaluations),
            "meta_iteration": done,
            **spent,
            "validation_loss": record.validation_loss.ravel(),
        }
    ).sort_values(["seed", "meta_iteration"], ignore_index=True)


def curves(record: CellRecord, protocols: list[str]) -> pd.DataFrame:
    """Return the adaptation curve with a row for each protocol, step, region, seed and update: mean
    over the tasks.
    """
    frames = []
    for protocol in protocols:
        for step in record.steps(protocol):
            losses = record.losses(protocol, step)  # (region, update, run, task)
            regions, updates = losses.shape[:2]
            index = pd.MultiIndex.from_product(
                [REGIONS[:regions], range(updates), record.seeds],
                names=["region", "update", "seed"],
            )
            frame = pd.DataFrame(
                {"mean": losses.mean(-1).ravel(), "median": np.median(losses, axis=-1).ravel()},
                index,
            )
            sizes = np.tile(record.step_size(protocol, step), regions * updates)
            frames.append(frame.reset_index().assign(protocol=protocol, step=step, step_size=sizes))
    head = {"algorithm": record.cell.algorithm, "cell": record.cell.id}
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
