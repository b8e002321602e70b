"""Support points of the showcase wave."""

from __future__ import annotations

import pandas as pd

from metabench.analysis.columns import NUMBER, Column
from metabench.analysis.measured import Study

NAME = "points.csv"
CAPTION = "Support points of the showcase wave."
COLUMNS = {"y": Column(NUMBER, "Value of the wave at a support point.")}


def build(study: Study) -> pd.DataFrame:
    """Return the table."""
    found = []
    for protocol in study.protocols:
        support = study.baselines[f"showcase/{protocol}/support"]
        found.append(pd.DataFrame(support, columns=["x", "y"]).assign(protocol=protocol))
    table = pd.concat(found)[["protocol", "x", "y"]]
    return table.sort_values(["protocol", "x"], ignore_index=True)
