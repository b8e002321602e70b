"""The arrays of each kind of record: name, axes and type of each, declared once.

Shapes, checks and the joining of blocks of seeds follow from the declarations. An array that a
record has for each protocol, step rule or baseline has these in its name: `test/standard/own`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from metabench.learning import algorithms, baselines, training
from metabench.learning.held_out import (
    measures_distributions,
    picture_x,
    region_names,
)
from metabench.learning.predictions import BankSettings
from metabench.learning.predictive import MEASURES
from metabench.learning.settings import (
    Banks,
    BaselineSettings,
    EvaluateSettings,
    Protocol,
    TrainSettings,
    doubling,
)
from metabench.learning.tasks import TaskDistribution
from metabench.records.artifacts import AGAIN, Arrays, ArtifactError

Sizes = Mapping[str, int]
"""Length of each axis."""


@dataclass(frozen=True)
class Array:
    """The declaration of an array.

    Args:
        name: Its name, or the first part of it.
        axes: Its axes. `run` is the one along which blocks of seeds are joined.
        dtype: Its type.
    """

    name: str
    axes: tuple[str, ...]
    dtype: str

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Return the shape that follows from the lengths of the axes."""
        return tuple(sizes[axis] for axis in self.axes)


META_ITERATION = Array("meta_iteration", ("one",), "int64")
THETA = Array("theta", ("run", "learned"), "float32")
MEMORY = Array("memory", ("moment", "run", "learned"), "float32")
DIVERGED_AT = Array("diverged_at", ("run",), "int64")
VALIDATION_CURVE = Array("validation_loss", ("evaluation", "run"), "float64")
STATE = (META_ITERATION, THETA, MEMORY, DIVERGED_AT, VALIDATION_CURVE)
"""The arrays of a training job and of its checkpoints."""

TEST = Array("test", ("region", "update", "run", "test task"), "float32")
VALIDATION = Array("validation", ("update", "run", "validation task"), "float32")
STEP_SIZE = Array("step_size", ("run",), "float64")
OF_STEPS = (STEP_SIZE, VALIDATION, TEST)
"""The arrays of an evaluation for each protocol and step rule."""

TUNING = Array("tuning", ("candidate", "run"), "float64")
SHOWCASE = Array("showcase", ("picture update", "run", "picture point"), "float32")
PREDICTIVE = Array("predictive", ("region", "measure", "run", "test task"), "float32")
DEVIATION = Array("deviation", ("run", "picture point"), "float32")
OF_DISTRIBUTIONS = (PREDICTIVE, DEVIATION)
"""The arrays of an evaluation for each protocol if the algorithm predicts variances."""

BASELINE_TEST = Array("test", ("region", "test task"), "float64")
BASELINE_VALIDATION = Array("validation", ("region", "validation task"), "float64")
BASELINE_PREDICTIVE = Array("predictive", ("region", "measure", "test task"), "float64")
PREDICTED = Array("test", ("region", "run", "test task"), "float64")
PICTURE_X = Array("showcase/x", ("picture point", "feature"), "float64")
PICTURE_TRUTH = Array("showcase/truth", ("picture point", "one"), "float64")
PICTURE_SUPPORT = Array("showcase", ("shot", "feature and label"), "float64")

Declared = dict[str, tuple[Array, tuple[int, ...]]]
"""The declaration and the shape of each array of a record, by its full name."""


def state(settings: TrainSettings, runs: int, done: int) -> Declared:
    """Return the arrays of a training state after some meta-iterations."""
    sizes = {
        "one": 1,
        "run": runs,
        "learned": learned(settings),
        "moment": training.moments(settings.hyperparameters),
        "evaluation": 1 + ceil(done / settings.validation.interval),
    }
    return {array.name: (array, array.shape(sizes)) for array in STATE}


def learned(settings: TrainSettings | EvaluateSettings) -> int:
    """Return M, the number of values that a run of a job learns."""
    algorithm = algorithms.load(settings.algorithm)
    return algorithm.begin(settings.shape, (0,), settings.hyperparameters).shape[-1]


def evaluation(settings: EvaluateSettings, runs: int) -> Declared:
    """Return the arrays of an evaluation."""
    adaptation = algorithms.load(settings.algorithm).adaptation
    found: Declared = {}
    for name, protocol in settings.protocols.items():
        sizes = _sizes(settings.tasks, protocol, settings.banks) | {
            "run": runs,
            "update": len(protocol.measured),
            "picture update": len(doubling(protocol.updates)),
            "candidate": len(settings.tuning_step_sizes),
        }
        steps = adaptation.rules(protocol.steps)
        for step in steps:
            for array in OF_STEPS:
                found[f"{array.name}/{name}/{step}"] = array, array.shape(sizes)
        if "tuned" in steps:
            found[f"{TUNING.name}/{name}"] = TUNING, TUNING.shape(sizes)
        found[f"{SHOWCASE.name}/{name}"] = SHOWCASE, SHOWCASE.shape(sizes)
        if adaptation.distribution and measures_distributions(protocol, settings.tasks):
            for array in OF_DISTRIBUTIONS:
                found[f"{array.name}/{name}"] = array, array.shape(sizes)
    return found


def of_baselines(settings: BaselineSettings) -> Declared:
    """Return the arrays of the baselines."""
    found: Declared = {}
    for name, protocol in settings.protocols.items():
        sizes = _sizes(settings.tasks, protocol, settings.banks)
        for array in (PICTURE_X, PICTURE_TRUTH):
            found[array.name] = array, array.shape(sizes)
        found[f"showcase/{name}/support"] = PICTURE_SUPPORT, PICTURE_SUPPORT.shape(sizes)
        for array in (BASELINE_TEST, BASELINE_VALIDATION):
            for baseline in baselines.names(settings.tasks, protocol):
                found[f"{array.name}/{name}/{baseline}"] = array, array.shape(sizes)
        of_labels = BASELINE_PREDICTIVE, BASELINE_PREDICTIVE.shape(sizes)
        for baseline in baselines.distributions(settings.tasks, protocol):
            found[f"{BASELINE_PREDICTIVE.name}/{name}/{baseline}"] = of_labels
    return found


def of_predictions(settings: BankSettings, runs: int) -> Declared:
    """Return the arrays of predictions that were made elsewhere."""
    found: Declared = {}
    for name, protocol in settings.protocols.items():
        sizes = _sizes(settings.tasks, protocol, settings.banks) | {"run": runs}
        found[f"{PREDICTED.name}/{name}"] = PREDICTED, PREDICTED.shape(sizes)
    return found


def _sizes(tasks: TaskDistribution, protocol: Protocol, banks: Banks) -> dict[str, int]:
    """Return the lengths of the axes under a protocol."""
    features = tasks.features
    return {
        "one": 1,
        "region": len(region_names(protocol.distribution(tasks), protocol)),
        "measure": len(MEASURES),
        "test task": banks.test,
        "validation task": banks.validation,
        "picture point": len(picture_x(tasks)),
        "feature": features,
        "feature and label": features + 1,
        "shot": protocol.shots,
    }


def hold(path: Path, arrays: Arrays, declared: Declared) -> None:
    """Raise ArtifactError if the arrays of a file are not the declared ones."""
    found = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    wanted = {name: (array.dtype, shape) for name, (array, shape) in declared.items()}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise ArtifactError(
                f"{path} is no record of its job: {name} must be {wanted.get(name)}, the file has "
                f"{found.get(name)}; {AGAIN}"
            )


def join(blocks: Sequence[Arrays], declared: Declared) -> Arrays:
    """Join blocks of seeds along the run axis; arrays without it are taken from the first block."""
    return dict(_joined(blocks, declared))


def _joined(
    blocks: Sequence[Arrays], declared: Declared
) -> Iterator[tuple[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]]:
    for name, (array, _) in declared.items():
        if "run" in array.axes:
            along = array.axes.index("run")
            yield name, np.concatenate([block[name] for block in blocks], axis=along)
        else:
            yield name, blocks[0][name]
