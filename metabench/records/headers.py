"""The header of each record, which lists its inputs: settings, source, versions, engine."""

from __future__ import annotations

from metabench.learning import algorithms
from metabench.learning.predictions import BankSettings
from metabench.learning.settings import BaselineSettings, EvaluateSettings, TrainSettings
from metabench.records.artifacts import Header
from metabench.records.predictions import Predictions
from metabench.records.provenance import code_digest, made_from

NUMERICS = ("torch", "numpy")
"""The packages on whose versions results may depend."""


def training(settings: TrainSettings, seeds: str, engine: str) -> Header:
    """Return the header of a training job's record and of its checkpoints."""
    code = code_digest("metabench.learning.training", algorithms.module_name(settings.algorithm))
    return made_from(
        "train",
        settings.model_dump(mode="json"),
        code,
        NUMERICS,
        engine=engine,
        seeds=seeds,
        algorithm_file=algorithms.source_digest(settings.algorithm),
    )


def evaluation(settings: EvaluateSettings, seeds: str, engine: str, theta: str) -> Header:
    """Return the header of an evaluation; `theta` is the content digest of the trained record."""
    code = code_digest("metabench.learning.evaluation", algorithms.module_name(settings.algorithm))
    return made_from(
        "evaluate",
        settings.model_dump(mode="json"),
        code,
        NUMERICS,
        engine=engine,
        seeds=seeds,
        theta=theta,
    )


def of_baselines(settings: BaselineSettings) -> Header:
    """Return the header of the baselines' record."""
    code = code_digest("metabench.learning.baselines")
    return made_from("baselines", settings.model_dump(mode="json"), code, NUMERICS)


def of_predictions(settings: BankSettings, given: Predictions) -> Header:
    """Return the header of the record of predictions that were made elsewhere."""
    return made_from(
        "predictions",
        settings.model_dump(mode="json"),
        code_digest("metabench.learning.predictions"),
        NUMERICS,
        seeds=given.runs,
        answers=given.digest,
    )
