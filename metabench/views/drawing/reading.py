"""Read a study's tables for the figures, from files alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from metabench.analysis import frames
from metabench.analysis.columns import ORACLE, QUARTERS
from metabench.study.grids import singles
from metabench.views.drawing.cell_grids import NAMING, form_grids
from metabench.views.drawing.style import Style, styles

LEAST = 1e-5
"""Baselines with a smaller score solve all tasks and would hide the differences of others."""

MANY = 6
"""The most algorithms for which a figure shows two lines and a band each."""

BUDGETED = "equal-budget"
"""The role of a cell that was given another algorithm's budget."""


def crowded(algorithms: Collection[str]) -> bool:
    """Return whether there are too many algorithms for two lines and a band each."""
    return len(algorithms) > MANY


class Fields(NamedTuple):
    """What the figures of a study are about, by the field in their names.

    Args:
        protocol: The protocols that are groups by themselves.
        grid: The groups of protocols that are grids.
        noisy: The protocols under which predictive distributions are measured.
        distant: The protocols whose losses are measured by distance to the support points.
        recurring: The protocols, if cells differ in their number of training tasks.
        gridded: The protocols, if cells form grids of step sizes or of other hyperparameters.
        curved: The protocols, if predictions are curves: of tasks with one input.
        budgeted: Whether a cell was given another algorithm's budget.
        crowded: Whether there are too many algorithms for two lines and a band each.
    """

    protocol: Sequence[str]
    grid: Sequence[str] = ()
    noisy: Sequence[str] = ()
    distant: Sequence[str] = ()
    recurring: Sequence[str] = ()
    gridded: Sequence[str] = ()
    curved: Sequence[str] = ()
    budgeted: bool = False
    crowded: bool = False


class Tables:
    """The tables of one study, each read when first used.

    Args:
        folder: The folder of the tables.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table by its file name."""
        if name not in self._read:
            self._read[name] = frames.read(self.folder, name)
        return self._read[name]

    def __contains__(self, name: str) -> bool:
        """Return whether the study has a table."""
        return frames.exists(self.folder, name)

    def rows(self, table: str, **where: Any) -> pd.DataFrame:
        """Return the rows of a table whose columns have these values."""
        found = self[table]
        for column, value in where.items():
            found = found[found[column] == value]
        return found

    @cached_property
    def every_algorithm(self) -> list[str]:
        """All algorithms.

        Those with their own adaptation come before the baselines without.
        """
        own = set(self.rows("adaptation.csv", step="own")["algorithm"])
        found = self["cells.csv"]["algorithm"].unique()
        return sorted(found, key=lambda name: (name not in own, name))

    @property
    def hyperparameters(self) -> list[str]:
        """The hyperparameters of all algorithms."""
        return [name for name in self["cells.csv"].columns if name not in NAMING]

    @property
    def crowded(self) -> bool:
        """Whether there are too many algorithms for two lines and a band each."""
        return crowded(self.every_algorithm)

    @property
    def note(self) -> str:
        """Addition to a title if only selected cells are drawn."""
        return ", selected cells" if self.crowded else ""

    @cached_property
    def baselines(self) -> list[str]:
        """Baselines and predictions, which take no updates; the oracle left out."""
        return sorted(set(self.rows("adaptation.csv", step="none")["algorithm"]) - {ORACLE})

    def baselines_of(self, protocol: str) -> list[str]:
        """Return the baselines whose scores fit on an axis with those of the others."""
        rows = self.rows("leaderboard.csv", protocol=protocol, step="none")
        known = set(rows.loc[rows["score"] >= LEAST, "algorithm"])
        return [name for name in self.baselines if name in known]

    @cached_property
    def protocols(self) -> list[str]:
        """The protocols with their own figures: those that are not in a grid."""
        return sorted(singles(set(self["adaptation.csv"]["protocol"])))

    @property
    def fields(self) -> Fields:
        """What the figures are about."""
        return Fields(
            protocol=self.protocols,
            grid=self.grids,
            noisy=self.noisy_protocols,
            distant=self._measured_in(QUARTERS[0]),
            recurring=self.protocols if "training_tasks" in self["cells.csv"] else [],
            gridded=self.protocols if form_grids(self["cells.csv"]) else [],
            curved=self.protocols if "gallery.csv" in self else [],
            budgeted=BUDGETED in set(self["cells.csv"]["role"]),
            crowded=self.crowded,
        )

    @cached_property
    def grids(self) -> list[str]:
        """The groups of protocols that are grids, in the order of the study file."""
        return list(self["axes.csv"]["group"].unique())

    @cached_property
    def noisy_protocols(self) -> list[str]:
        """Those under which predictive distributions were measured."""
        if "predictive.csv" not in self:
            return []
        found = set(self["predictive.csv"]["protocol"])
        return [name for name in self.protocols if name in found]

    @cached_property
    def protocols_with_regions(self) -> list[str]:
        """Protocols whose support does not cover the whole domain."""
        return self._measured_in("unseen")

    def _measured_in(self, region: str) -> list[str]:
        """Return the protocols whose losses are also measured in a region."""
        found = set(self.rows("adaptation.csv", region=region)["protocol"])
        return [name for name in self.protocols if name in found]

    @cached_property
    def styles(self) -> dict[str, Style]:
        """The style of each algorithm and baseline."""
        return styles(set(self["adaptation.csv"]["algorithm"]))

    def zero(self, protocol: str, statistic: str = "mean", region: str = "all") -> float:
        """Return the zero predictor's loss; nan in a study without it."""
        found = self.rows("adaptation.csv", algorithm="zero", protocol=protocol, region=region)[
            statistic
        ]
        return float(found.iloc[0]) if len(found) else float("nan")

    def size(self, protocol: str) -> str:
        """Format the numbers of seeds and test tasks behind a protocol's results."""
        found = self.rows("adaptation.csv", protocol=protocol)
        return f"{found['seeds'].max()} seeds × {found['tasks'].max()} tasks"
