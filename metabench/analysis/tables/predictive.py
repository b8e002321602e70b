"""Predictive distributions of labels: their likelihood, sharpness and calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from metabench.analysis.columns import NUMBER, Column
from metabench.analysis.measured import Study
from metabench.analysis.statistics.intervals import mean_interval
from metabench.analysis.statistics.losses import Floats
from metabench.learning.predictive import LEVELS, MEASURES
from metabench.study.cell_groups import predict_variances
from metabench.study.config import StudyConfig

NAME = "predictive.csv"
CAPTION = """
Quality of the distributions of labels that cells and baselines predict after a protocol's last
update, on noisy labels of the query points. Algorithms that predict no variance have no rows, nor
have protocols whose labels have no noise.
"""

COVERAGE = {
    f"coverage_{level}": Column(
        NUMBER, f"Share of labels within the central interval of {level} %; ideally {level / 100}."
    )
    for level in LEVELS
}
COLUMNS = {
    "nll": Column(
        NUMBER, "Mean negative log density of a label; the true distribution has the lowest."
    ),
    "nll_lower": Column(NUMBER, "Lower end of its interval over seeds and tasks."),
    "nll_upper": Column(NUMBER, "Upper end of it."),
    "sharpness": Column(NUMBER, "Mean predicted standard deviation of a label."),
    "calibration_error": Column(
        NUMBER, "Mean absolute difference between the coverage of the intervals and their level."
    ),
    **COVERAGE,
}

KEYS = ["algorithm", "cell", "role", "protocol", "region"]


def needed(config: StudyConfig) -> bool:
    """Return whether a study has this table: cells predict the variance of noisy labels."""
    return predict_variances(config)


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    confidence = study.config.statistics.confidence
    rows = [{**place, **_quality(found, confidence)} for place, found in measures(study)]
    order = [*KEYS, *COLUMNS]
    return pd.DataFrame(rows, columns=order).sort_values(KEYS, ignore_index=True)


def measures(study: Study) -> Iterator[tuple[dict[str, str], dict[str, Floats]]]:
    """Yield the names of each row and its measures ``(seed, task)``, by name."""
    for protocol in study.protocols:
        for head, found in _of_protocol(study, protocol):
            for region, values in zip(study.regions[protocol], found, strict=True):
                place = {**head, "protocol": protocol, "region": region}
                yield place, dict(zip(MEASURES, values, strict=True))


def _of_protocol(study: Study, protocol: str) -> Iterator[tuple[dict[str, str], Floats]]:
    """Yield the head of each cell and baseline with its ``(region, measure, seed, task)``."""
    for record in study.cells:
        if (key := f"predictive/{protocol}") in record.evaluation:
            yield record.head, record.evaluation[key].astype(np.float64)
    prefix = f"predictive/{protocol}/"
    for key in sorted(name for name in study.baselines if name.startswith(prefix)):
        head = {"algorithm": key.removeprefix(prefix), "cell": "-", "role": "baseline"}
        yield head, study.baselines[key][:, :, None]


def _quality(found: dict[str, Floats], confidence: float) -> dict[str, Any]:
    """Return the statistics of one row."""
    coverage = {level: float(found[f"coverage {level}"].mean()) for level in LEVELS}
    nll = mean_interval(found["nll"], confidence, scale="raw")
    return {
        "nll": nll.estimate,
        "nll_lower": nll.lower,
        "nll_upper": nll.upper,
        "sharpness": float(np.nan_to_num(found["deviation"].mean(), nan=np.inf)),
        "calibration_error": float(
            np.mean([abs(found - level / 100) for level, found in coverage.items()])
        ),
        **{f"coverage_{level}": found for level, found in coverage.items()},
    }
