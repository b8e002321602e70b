"""All measurements of a cell, read from its records and checked against its study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metabench.learning.settings import NAMED_STEPS
from metabench.records import arrays, artifacts, headers, predictions
from metabench.records.artifacts import AGAIN, Arrays, ArtifactError
from metabench.records.layout import Layout
from metabench.records.predictions import Predictions
from metabench.records.provenance import config_digest
from metabench.study.cells import Cell
from metabench.study.jobs import Study, seeds_of

COST_COLUMNS = {
    "tasks": "tasks_seen",
    "gradient_evaluations": "gradient_evaluations",
    "point_gradients": "point_gradients",
}
"""Column of each field of `metabench.learning.algorithm.Cost`."""


@dataclass(frozen=True)
class CellRecord:
    """All measurements of one cell, or of one block of its seeds.

    Args:
        cell: The cell.
        seeds: ``(run,)``.
        theta: ``(run, M)``.
        diverged_at: First meta-iteration after which theta was not finite, 0 if never, ``(run,)``.
        meta_iterations: Those of the validation curve, ``(evaluation,)``.
        validation_loss: ``(evaluation, run)``.
        evaluation: The arrays of all evaluations by name (`metabench.records.arrays`).
        digest: Digest of the records it was read from.
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
        return {"algorithm": self.cell.algorithm, "cell": self.cell.name, "role": self.cell.role}

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Whether each run's theta, or its loss before adaptation, is not finite, ``(run,)``."""
        lost = [self.diverged_at > 0]
        for name, losses in self.evaluation.items():
            if name.startswith("test/"):
                on_whole_grid, before = 0, 0
                lost.append(~np.isfinite(losses[on_whole_grid, before]).all(-1))
        return np.any(lost, axis=0)

    def steps(self, protocol: str) -> list[str]:
        """Return the step rules that a protocol was evaluated with, the named ones first."""
        prefix = f"test/{protocol}/"
        found = [name.removeprefix(prefix) for name in self.evaluation if name.startswith(prefix)]
        named = [step for step in NAMED_STEPS if step in found]
        return [*named, *(step for step in found if step not in named)]

    def losses(self, protocol: str, step: str) -> NDArray[np.float64]:
        """Return test losses ``(region, update, run, task)``; NaN becomes infinite."""
        return infinite(self.evaluation[f"test/{protocol}/{step}"])

    def validation(self, protocol: str, step: str) -> NDArray[np.float64]:
        """Return validation losses ``(update, run, task)``; NaN becomes infinite."""
        return infinite(self.evaluation[f"validation/{protocol}/{step}"])

    def step_size(self, protocol: str, step: str) -> NDArray[np.float64]:
        """Return each run's step size of adaptation, ``(run,)``."""
        return self.evaluation[f"step_size/{protocol}/{step}"]


def infinite(losses: NDArray[Any]) -> NDArray[np.float64]:
    """Return losses as float64, with NaN as infinite."""
    return np.nan_to_num(losses.astype(np.float64), nan=np.inf, posinf=np.inf)


@dataclass(frozen=True)
class PredictionsRecord:
    """Losses of predictions that were made elsewhere.

    Args:
        name: What they are called.
        seeds: ``(run,)``; none where they have no seeds, and one run.
        losses: ``(region, run, task)`` by `test/PROTOCOL`.
    """

    name: str
    seeds: NDArray[np.int64]
    losses: Arrays


@dataclass(frozen=True)
class Reader:
    """Reads the records of a study.

    Args:
        study: The study.
        layout: Its files.
        engine: The engine that must have computed its records.
    """

    study: Study
    layout: Layout
    engine: str

    def block(self, cell: Cell, seeds: str) -> CellRecord:
        """Read one block of a cell's seeds.

        Raises:
            ArtifactError: A file is missing or damaged, or has different settings, source, versions
                or engine.
        """
        settings = self.study.train_settings(cell)
        path = self.layout.trained(cell.path, seeds)
        trained, header = artifacts.read(path)
        artifacts.require(path, header, headers.training(settings, seeds, self.engine))
        runs, done = seeds_of(seeds), settings.meta_iterations
        if not np.array_equal(trained.get("meta_iteration", np.zeros(0)), [done]):
            raise ArtifactError(f"{path} is not the record of a finished training; {AGAIN}")
        arrays.hold(path, trained, arrays.state(settings, len(runs), done))

        evaluation: Arrays = {}
        digests = [header["content"]]
        for group in self.study.groups:
            found, digest = self._evaluation(cell, group, seeds, header["content"])
            evaluation |= found
            digests.append(digest)

        count = len(trained["validation_loss"])
        points = np.arange(count) * settings.validation.interval
        return CellRecord(
            cell=cell,
            seeds=np.array(runs),
            theta=trained["theta"],
            diverged_at=trained["diverged_at"],
            meta_iterations=np.minimum(points, cell.meta_iterations),
            validation_loss=infinite(trained["validation_loss"]),
            evaluation=evaluation,
            digest=config_digest(digests),
        )

    def _evaluation(self, cell: Cell, group: str, seeds: str, theta: str) -> tuple[Arrays, str]:
        """Return the arrays of an evaluation, and the digest of its content."""
        path = self.layout.evaluated(cell.path, group, seeds)
        found, header = artifacts.read(path)
        settings = self.study.evaluate_settings(cell, group)
        artifacts.require(path, header, headers.evaluation(settings, seeds, self.engine, theta))
        arrays.hold(path, found, arrays.evaluation(settings, len(seeds_of(seeds))))
        return found, header["content"]

    def cell(self, cell: Cell) -> CellRecord:
        """Read all seeds of a cell; raise as `block` does."""
        blocks = [self.block(cell, seeds) for seeds in self.study.blocks]
        declared: arrays.Declared = {}
        for group in self.study.groups:
            settings = self.study.evaluate_settings(cell, group)
            declared |= arrays.evaluation(settings, self.study.config.seeds)
        return CellRecord(
            cell=cell,
            seeds=np.concatenate([block.seeds for block in blocks]),
            theta=np.concatenate([block.theta for block in blocks]),
            diverged_at=np.concatenate([block.diverged_at for block in blocks]),
            meta_iterations=blocks[0].meta_iterations,
            validation_loss=np.concatenate([block.validation_loss for block in blocks], axis=1),
            evaluation=arrays.join([block.evaluation for block in blocks], declared),
            digest=config_digest([block.digest for block in blocks]),
        )

    def baselines(self) -> Arrays:
        """Read the baselines' arrays under all protocols; raise as `block` does."""
        every: Arrays = {}
        for group in self.study.groups:
            path = self.layout.baselines(group)
            found, header = artifacts.read(path)
            settings = self.study.baseline_settings(group)
            artifacts.require(path, header, headers.of_baselines(settings))
            arrays.hold(path, found, arrays.of_baselines(settings))
            every |= found
        return every

    def predictions(self, name: str) -> PredictionsRecord:
        """Read the record of predictions that were made elsewhere; raise as `block` does."""
        path, settings = self.layout.predictions(name), self.study.bank_settings
        answers = self.answers(name)
        found, header = artifacts.read(path)
        artifacts.require(path, header, headers.of_predictions(settings, answers))
        arrays.hold(path, found, arrays.of_predictions(settings, max(1, answers.runs)))
        return PredictionsRecord(name, np.arange(answers.runs), found)

    def answers(self, name: str) -> Predictions:
        """Read the file of predictions that were made elsewhere, and check it."""
        path = Path(self.study.predictions[name].predictions)
        return predictions.read(path, self.study.bank_settings, self.study.config.seeds)

    def contents(self) -> str:
        """Return a digest of the content of all records of the study, whatever their order."""
        paths = [self.layout.trained(cell.path, seeds) for cell, seeds in self.study.train_jobs]
        for cell, group, seeds in self.study.evaluate_jobs:
            paths.append(self.layout.evaluated(cell.path, group, seeds))
        paths += [self.layout.baselines(group) for group in self.study.groups]
        paths += [self.layout.predictions(name) for name in self.study.predictions]
        return config_digest([artifacts.read_header(path)["content"] for path in sorted(paths)])
