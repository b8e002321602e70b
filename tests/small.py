"""Small settings to try things on, cut from the study that the benchmark runs by default."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from metabench import jobs
from metabench.learning import settings
from metabench.learning.algorithm import DESCENT
from metabench.learning.evaluation import Adapter
from metabench.learning.network import Network
from metabench.records import manifests
from metabench.records.layout import Layout
from metabench.records.running import Running
from metabench.study import config
from metabench.study.cells import Cell
from metabench.study.jobs import Study

ROOT = Path(__file__).resolve().parent.parent
FLUX = ROOT / "config" / "flux.yaml"


def content(**changes: Any) -> dict[str, Any]:
    """Return the content of config/flux.yaml with top-level keys replaced."""
    return {**copy.deepcopy(config.read(FLUX)), **changes}


def tiny(**changes: Any) -> dict[str, Any]:
    """Return the content of a study that takes seconds: two seeds, six test tasks.

    Args:
        changes: Replaced top-level keys.
    """
    shape = {"study": "tiny", "seeds": 2, "seed_block": 2, "network": {"hidden": [8]}}
    evaluation = {"tasks": 6, "tuning_step_sizes": [0.001, 0.01]}
    return content(**shape | {"evaluation": evaluation, "statistics": {"resamples": 50}} | changes)


RANDOM = {"algorithm": "random", "meta_iterations": 0, "published": {}}
"""The cell that is trained in no time."""


def short_fomaml(meta_iterations: int, meta_step_size: Any) -> dict[str, Any]:
    """Return cells of FOMAML that train for a short time; meta step 0.01 is the published one."""
    steps = {"meta_batch_size": 2, "shots": 5, "inner_steps": 1, "inner_step_size": 0.02}
    found = {
        "algorithm": "fomaml",
        "meta_iterations": meta_iterations,
        **steps,
        "meta_step_size": meta_step_size,
    }
    return {**found, "published": {"meta_step_size": 0.01}}


def study(content: dict[str, Any]) -> Study:
    """Return a study by the content of its file."""
    return Study(config.parse(content))


def flux(**changes: Any) -> Study:
    """Return the study of config/flux.yaml with top-level keys replaced."""
    return study(content(**changes))


def running(content: dict[str, Any], root: Path, engine: str | None = None) -> Running:
    """Return a study as it is run in a folder.

    Args:
        content: Of its file.
        root: The folder of its results.
        engine: By default that of this machine.
    """
    found = Running.start(study(content))
    return Running(found.study, Layout(root), engine or found.engine)


@cache
def every_algorithm() -> Study:
    """Return the study of benchmarks/workloads.yaml, which has a cell of every algorithm."""
    return Study(config.load(ROOT / "benchmarks" / "workloads.yaml"))


def published(algorithm: str) -> Cell:
    """Return an algorithm's published cell; those of config/flux.yaml are the same ones."""
    return every_algorithm().cell(f"{algorithm}/published")


def protocol(shots: int, support: tuple[float, float], **more: Any) -> settings.Protocol:
    """Return a protocol of three updates, unless more is said."""
    return settings.Protocol(shots=shots, support=support, **{"updates": 3, **more})


class Plain:
    """Hyperparameters of an algorithm that does not train."""

    inner_step_size = 0.02


def plain(network: Network) -> Adapter:
    """Return how a network adapts by plain descent, with steps of 0.02 unless told otherwise."""
    return Adapter(DESCENT, network, Plain())


def changed(model: Any, **changes: Any) -> Any:
    """Return settings with keys replaced; a dictionary replaces keys of nested settings."""
    updates = dict(changes)
    for key, value in changes.items():
        known = getattr(model, key)
        if isinstance(known, BaseModel) and isinstance(value, dict):
            updates[key] = changed(known, **value)
    return type(model).model_validate({**dict(model), **updates})


def train_settings(algorithm: str, meta_iterations: int, **changes: Any) -> settings.TrainSettings:
    """Return settings of a short training of the published cell.

    It is validated on 4 tasks after every 5 meta-iterations.

    Args:
        algorithm: Its name.
        meta_iterations: How long.
        changes: Replaced keys, or entries of `hyperparameters`, `network` and `validation`.
    """
    known = flux().train_settings(published(algorithm))
    short = changed(known, meta_iterations=meta_iterations, validation={"tasks": 4, "interval": 5})
    return changed(short, **changes)


def evaluate_settings(algorithm: str, bank: int = 20, **changes: Any) -> settings.EvaluateSettings:
    """Return settings of an evaluation of the published cell.

    Args:
        algorithm: Its name.
        bank: Test tasks; there are 10 validation tasks.
        changes: As for `train_settings`; protocols are by default both of the study.
    """
    whole = flux()
    cell = published(algorithm)
    known = [whole.evaluate_settings(cell, group) for group in whole.groups]
    every = {name: p for found in known for name, p in found.protocols.items()}
    banks = {"test": bank, "validation": 10}
    return changed(known[0], **{"protocols": every, "banks": banks, **changes})


def baseline_settings(
    protocols: dict[str, settings.BaselineProtocol], bank: int = 20, **changes: Any
) -> settings.BaselineSettings:
    """Return settings of an evaluation of the baselines.

    Args:
        protocols: Protocols by name.
        bank: Test tasks; there are 10 validation tasks.
        changes: As for `train_settings`.
    """
    known = flux().baseline_settings("standard")
    banks = {"test": bank, "validation": 10}
    return changed(known, **{"protocols": protocols, "banks": banks, **changes})


def compute(started: Running) -> None:
    """Do each training, evaluation and baseline of a study, and predictions, in this process."""
    for cell, seeds in started.study.train_jobs:
        jobs.train(started, cell, seeds)
    for cell, group, seeds in started.study.evaluate_jobs:
        jobs.evaluate(started, cell, group, seeds)
    for group in started.study.groups:
        jobs.baselines(started, group)
    for name in started.study.predictions:
        jobs.predictions(started, name)


def finish(started: Running) -> None:
    """Do all jobs of a study but tracking, with one figure that is quickly drawn."""
    started.write()
    compute(started)
    jobs.tables(started)
    jobs.report(started)
    figures = started.layout.figures
    figures.mkdir()
    (figures / "curve.svg").write_text("<svg/>")
    manifests.write(figures, ["curve.svg"], {})
