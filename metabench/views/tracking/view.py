"""The view in which MLflow opens a study's runs: its columns, and its order.

MLflow saves a view in a tag of the experiment, and an address may name a saved view. What a view
leaves out is as MLflow shows it by default.
"""

from __future__ import annotations

import json

from metabench.study.jobs import Study

KEY = "scores"
"""Name of the view in an address."""

TAG = f"mlflow.sharedViewState.{KEY}"
"""Tag of the experiment that holds the view."""


def score(protocol: str) -> str:
    """Return the name of the metric with a run's score after a protocol's last update.

    Example:
        >>> score("standard")
        'standard/final_score'
    """
    return f"{protocol}/final_score"


def columns(study: Study) -> dict[str, int]:
    """Return the columns by MLflow's names, in order, each with its width in pixels.

    Scores, status and cell come first, which a window of 1400 pixels shows: MLflow cuts long names
    of runs.
    """
    main = str(study.config.validation.protocol)
    protocols = [main, *(name for name in sorted(study.single_protocols) if name != main)]
    scores = [f"metrics.`{score(name)}`" for name in protocols]
    return {
        "attributes.`Run Name`": 190,
        **dict.fromkeys(scores, 165),
        "tags.`status`": 80,
        "params.`cell`": 300,
        "params.`algorithm`": 100,
        "params.`seed`": 60,
    }


def saved(study: Study) -> str:
    """Return the content of the tag: the columns, and the run with the lowest score first."""
    widths = columns(study)
    state = {
        "selectedColumns": list(widths),
        # A width is only read for a column that has a place.
        "columnOrder": list(widths),
        "columnWidths": widths,
        "orderByKey": f"metrics.`{score(str(study.config.validation.protocol))}`",
        "orderByAsc": True,
    }
    return json.dumps({"name": "final scores", "createdAt": 0, "state": json.dumps(state)})
