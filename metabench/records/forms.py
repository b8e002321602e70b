"""What arrays a record of each kind holds, and the check that they are there: names, types and
shapes.

A digest tells that arrays are those that were written; the form tells that they can be those of
their own settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

from metabench.learning import algorithms
from metabench.learning.algorithms.protocol import Hyperparameters
from metabench.learning.baselines import names
from metabench.learning.evaluation import SHOWCASE_X, regions
from metabench.learning.network import Network
from metabench.learning.optimizers import OPTIMIZERS
from metabench.learning.tasks import distribution
from metabench.records.artifacts import AGAIN, Arrays, ArtifactError

Form = dict[str, tuple[str, tuple[int, ...]]]
"""Type and shape of each array by its name."""


def state(settings: Mapping[str, Any], runs: int, done: int) -> Form:
    """Return the form of a training state after some meta-iterations, as
    `metabench.learning.training.State` has it.
    """
    validations = 1 + ceil(done / settings["validation"]["interval"])
    learned = theta(settings)
    moments = OPTIMIZERS[Hyperparameters(**settings["hyperparameters"]).meta_optimizer].moments
    return {
        "meta_iteration": ("int64", (1,)),
        "theta": ("float32", (runs, learned)),
        "memory": ("float32", (moments, runs, learned)),
        "diverged_at": ("int64", (runs,)),
        "validation_loss": ("float64", (validations, runs)),
    }


def theta(settings: Mapping[str, Any]) -> int:
    """Return M, how many numbers a run of a training or evaluation job learns."""
    algorithm, h = (
        algorithms.load(settings["algorithm"]),
        Hyperparameters(**settings["hyperparameters"]),
    )
    return algorithm.begin(Network.of(**settings["network"]), (0,), h).shape[-1]


def evaluation(settings: Mapping[str, Any], runs: int) -> Form:
    """Return the form of what `metabench.learning.evaluation.evaluate` returns."""
    form: Form = {}
    steps = settings["steps"]
    for name, protocol in settings["protocols"].items():
        shape = (
            _regions(settings, protocol),
            protocol["updates"] + 1,
            runs,
            settings["test_tasks"],
        )
        for step in steps:
            form[f"test/{name}/{step}"] = "float32", shape
            form[f"validation/{name}/{step}"] = "float32", (runs, settings["validation_tasks"])
            form[f"step_size/{name}/{step}"] = "float64", (runs,)
        if "tuned" in steps:
            form[f"tuning/{name}"] = "float64", (len(settings["tuning_step_sizes"]), runs)
        form[f"showcase/{name}"] = "float32", (2, runs, len(SHOWCASE_X))
    return form


def baselines(settings: Mapping[str, Any]) -> Form:
    """Return the form of what `metabench.learning.baselines.evaluate` returns."""
    points = "float64", (len(SHOWCASE_X), 1)
    form: Form = {"showcase/x": points, "showcase/truth": points}
    for name, protocol in settings["protocols"].items():
        form[f"showcase/{name}/support"] = "float64", (protocol["shots"], 2)
        for bank, baseline in product(
            ("test", "validation"), names(distribution(settings["tasks"]))
        ):
            form[f"{bank}/{name}/{baseline}"] = (
                "float64",
                (_regions(settings, protocol), settings[f"{bank}_tasks"]),
            )
    return form


def _regions(settings: Mapping[str, Any], protocol: Mapping[str, Any]) -> int:
    """Return how many regions the query grid has under a protocol."""
    return len(regions(distribution(settings["tasks"]), protocol))


def hold(path: Path, arrays: Arrays, form: Form) -> None:
    """Raise ArtifactError where the arrays of a file have other names, types or shapes than a form."""
    found = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    for name in sorted(found.keys() | form.keys()):
        if found.get(name) != form.get(name):
            raise ArtifactError(
                f"{path} is no record of its job: {name} must be {form.get(name)}, the file has {found.get(name)}; "
                f"{AGAIN}"
            )
