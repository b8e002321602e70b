"""Support points of the showcase wave."""

from __future__ import annotations

import pandas as pd

from metabench.analysis.columns import Column, of_x
from metabench.analysis.measured import Study

NAME = "points.csv"
CAPTION = "Support points of the showcase wave."
COLUMNS: dict[str, Column] = {}


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    found = []
    for protocol in study.single_protocols:
        support = study.baselines[f"showcase/{protocol}/support"]
        names = of_x(support.shape[1] - 1)
        found.append(pd.DataFrame(support, columns=[*names, "y"]).assign(protocol=protocol))
    table = pd.concat(found)[["protocol", *names, "y"]]
    return table.sort_values(["protocol", *names], ignore_index=True)
