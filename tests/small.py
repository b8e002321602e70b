"""Small settings to try things on, cut from the study that the benchmark runs by default."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

from metabench.learning import algorithms, baselines, evaluation, training
from metabench.learning.algorithms.protocol import Hyperparameters, descending
from metabench.learning.network import Network
from metabench.records import artifacts, records
from metabench.study import config, plans

ROOT = Path(__file__).resolve().parent.parent
FLUX = ROOT / "config" / "flux.yaml"


def content(**changes: Any) -> dict[str, Any]:
    """Return the content of config/flux.yaml with top-level keys replaced."""
    return {**copy.deepcopy(config.read(FLUX)), **changes}


def tiny(**changes: Any) -> dict[str, Any]:
    """Return the content of a study that takes seconds, with top-level keys replaced: two seeds,
    six test tasks.
    """
    shape = {"study": "tiny", "seeds": 2, "seed_block": 2, "network": {"hidden": [8]}}
    evaluation = {"tasks": 6, "tuning_step_sizes": [0.001, 0.01]}
    return content(**shape | {"evaluation": evaluation, "statistics": {"resamples": 50}} | changes)


RANDOM = {"algorithm": "random", "meta_iterations": 0, "published": {}}
"""The cell that is trained in no time."""


def short_fomaml(meta_iterations: int, meta_step_size: Any) -> dict[str, Any]:
    """Return cells of FOMAML that train for a short time; that of meta step 0.01 is the published
    one.
    """
    steps = {"meta_batch_size": 2, "shots": 5, "inner_steps": 1, "inner_step_size": 0.02}
    found = {
        "algorithm": "fomaml",
        "meta_iterations": meta_iterations,
        **steps,
        "meta_step_size": meta_step_size,
    }
    return {**found, "published": {"meta_step_size": 0.01}}


def flux(**changes: Any) -> config.StudyConfig:
    """Return the study of config/flux.yaml with top-level keys replaced."""
    return config.parse(content(**changes))


def published(algorithm: str) -> plans.Cell:
    """Return an algorithm's published cell."""
    return next(
        c for c in plans.cells(flux()) if c.algorithm == algorithm and c.role == "published"
    )


def protocol(shots: int, support: tuple[float, float], queries: int = 0) -> dict[str, Any]:
    """Return what held-out tasks need of a protocol."""
    return {"shots": shots, "support": support, "queries": queries}


def plain(network: Network) -> evaluation.Predict:
    """Return how a network adapts by plain descent, as evaluation wants it."""
    return partial(descending, network, h=Hyperparameters())


def train_settings(algorithm: str, meta_iterations: int, **changes: Any) -> dict[str, Any]:
    """Return settings of a short training of the published cell, validated on 4 tasks after every 5
    meta-iterations.

    Args:
        algorithm: Its name.
        meta_iterations: How long.
        changes: Replaced top-level keys, or entries of `hyperparameters`, `network` and
            `validation`.
    """
    settings = plans.train_settings(flux(), published(algorithm)) | {
        "meta_iterations": meta_iterations
    }
    settings["validation"] |= {"tasks": 4, "interval": 5}
    for key, value in changes.items():
        settings[key] = settings[key] | value if isinstance(value, dict) else value
    return settings


def evaluate_settings(algorithm: str, tasks: int = 20, **changes: Any) -> dict[str, Any]:
    """Return settings of an evaluation of the published cell on `tasks` test and 10 validation
    tasks.
    """
    settings = plans.evaluate_settings(flux(), published(algorithm))
    settings["hyperparameters"] |= changes.pop("hyperparameters", {})
    return settings | {"test_tasks": tasks, "validation_tasks": 10} | changes


def compute(study: config.StudyConfig, root: Path) -> None:
    """Do every job of a study in this process."""
    paths = records.Paths(root)
    for cell, block in plans.train_jobs(study):
        settings = plans.train_settings(study, cell)
        state = training.train(settings, plans.seeds_of(block), algorithms.load(cell.module))
        arrays = records.from_state(state)
        artifacts.write(
            paths.trained(cell, block), arrays, records.training_header(settings, block)
        )
        settings = plans.evaluate_settings(study, cell)
        found = records.from_tensors(
            evaluation.evaluate(settings, state.theta, algorithms.load(cell.module))
        )
        header = records.evaluation_header(settings, block, artifacts.content_digest(arrays))
        artifacts.write(paths.evaluated(cell, block), found, header)
    settings = plans.baseline_settings(study)
    found = records.from_tensors(baselines.evaluate(settings))
    artifacts.write(paths.baselines, found, records.baselines_header(settings))
