"""A short list: the best candidates of a wide study as the groups of cells of a narrow one.

The wide study tries many cells on few seeds, on its own bank; the narrow one runs the best of them
on many seeds. Both use only the validation bank, so the selection uses no test tasks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from metabench.analysis import frames
from metabench.analysis.columns import judged
from metabench.analysis.measured import BEYOND
from metabench.learning import algorithms
from metabench.study.messages import ConfigError


def groups(tables: Path, best: int) -> list[dict[str, Any]]:
    """Return a group of cells for each candidate among the best of its algorithm.

    These have the lowest validation scores under at least one protocol, each adapted with its
    algorithm's own step size.

    Args:
        tables: The tables of the wide study.
        best: Number of candidates that each algorithm keeps under each protocol.

    Raises:
        ArtifactError: The tables cannot be read.
        ConfigError: Their study varies more than hyperparameters, or an algorithm is not known.
    """
    scores = judged(frames.read(tables, "selection.csv"))
    scores = scores.sort_values(["validation_score", "cell"])
    kept = scores.groupby(["algorithm", "protocol"]).head(best)[["algorithm", "cell"]]
    cells = frames.read(tables, "cells.csv")
    if beyond := [name for name in BEYOND if name in cells.columns]:
        raise ConfigError(
            f"a short list consists of hyperparameters alone; the cells of {tables} also differ in "
            f"{', '.join(beyond)}"
        )
    cells = cells.merge(kept.drop_duplicates(), on=["algorithm", "cell"])
    return [_group(row) for row in cells.to_dict("records")]


def yaml_text(tables: Path, best: int) -> str:
    """Return the short list as the section `cells` of a study file."""
    return yaml.safe_dump({"cells": groups(tables, best)}, sort_keys=False)


def _group(row: dict[str, Any]) -> dict[str, Any]:
    """Return a cell as in a study file: values without a default, or different from it."""
    try:
        model = algorithms.load(row["algorithm"]).hyperparameters
    except ValueError as error:
        raise ConfigError(str(error)) from None
    # A table from before a hyperparameter has no column of it.
    given = {key: row[key] for key in model.model_fields if not pd.isna(row.get(key))}
    settings = model(**given).model_dump(mode="json", exclude_defaults=True)
    return {
        "algorithm": row["algorithm"],
        "meta_iterations": row["meta_iterations"],
        **dict(sorted(settings.items())),
    }
