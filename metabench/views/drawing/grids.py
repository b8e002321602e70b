"""A grid of protocols for its figures: axes, methods, and the score of each at each point."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from metabench.analysis.columns import judged
from metabench.views.drawing.lines import PUBLISHED, SELECTED, baseline
from metabench.views.drawing.reading import LEAST, Tables

LOW = 1e-4
"""Lower scores do not fit on an axis with the others."""

EQUAL_BUDGET: dict[str, Any] = {"linestyle": (0, (5, 1, 1, 1)), "linewidth": 1.2}

ROLES = {"published": PUBLISHED, "equal-budget": EQUAL_BUDGET, "grid": SELECTED}
"""The style of the cells of a role."""

FLOOR: dict[str, Any] = {"linestyle": "-", "linewidth": 5, "alpha": 0.3, "marker": "none"}
"""The style of the best possible predictor, which lies below the lines of others."""

FURTHER = ((1.2, 1.2), (6, 1.5, 1.2, 1.5), (2.5, 2.5))
"""Dash patterns of further cells of the same algorithm and role."""

TITLES = {
    "shots": "support points",
    "support": "support interval",
    "support center": "center of the support interval",
    "support width": "width of the support interval",
    "updates": "updates",
    "steps": "step size of adaptation",
    "noise": "noise on labels (standard deviation)",
    "domain": "interval of the query points",
    "optimizer": "rule of the updates",
    "queries": "query points",
    "amplitude": "amplitude",
    "phase": "phase",
    "frequency": "frequency",
    "family": "family of tasks",
    "noise_kind": "kind of noise",
    "placement": "placement of support points",
    "gap": "interval without support points",
    "outliers": "support points with a wrong label",
}
"""Labels of axes; others have the name of their key."""


@dataclass(frozen=True)
class Axis:
    """An axis along which a group of protocols varies.

    Args:
        name: The key.
        scale: log, linear or order.
        values: Its values in words, in the order of the study file.
        numbers: The values as numbers, if they are numbers.
    """

    name: str
    scale: str
    values: list[str]
    numbers: list[float]

    @property
    def title(self) -> str:
        """Its label."""
        if self.name == "steps" and self.scale != "order":
            multiple = all(value.startswith("own") for value in self.values)
            return "step size of adaptation" + (" over the cell's own" if multiple else "")
        return TITLES.get(self.name, self.name.replace("_", " "))


@dataclass(frozen=True)
class Method:
    """A cell or a baseline, and its style."""

    algorithm: str
    cell: str
    role: str
    label: str
    look: dict[str, Any]


class Grid:
    """A group of protocols that is a grid.

    Args:
        tables: Tables of its study.
        name: Name of the group.
        places: The rows of axes.csv to use; by default all of the group.
    """

    def __init__(self, tables: Tables, name: str, places: pd.DataFrame | None = None) -> None:
        self.tables, self.name = tables, name
        self.places = tables.rows("axes.csv", group=name) if places is None else places

    @cached_property
    def slices(self) -> list[tuple[str, Grid]]:
        """The grid over its first two axes, for each combination of values of the others.

        Each has a title, which is empty if there are no others.
        """
        further = [axis.name for axis in self.axes[2:]]
        if not further:
            return [("", self)]
        rest = self.places[self.places["axis"].isin(further)]
        at = rest.pivot(index="protocol", columns="axis", values="place")[further]
        found = []
        for _, group in at.groupby(further):
            protocols = self.places["protocol"].isin(group.index)
            here = rest[rest["protocol"] == group.index[0]].set_index("axis")["value"]
            title = ", ".join(f"{axis.title} {here[axis.name]}" for axis in self.axes[2:])
            kept = self.places[protocols & ~self.places["axis"].isin(further)]
            found.append((title, Grid(self.tables, self.name, kept)))
        return found

    @cached_property
    def axes(self) -> list[Axis]:
        """The axes, in the order of the study file."""
        found = []
        for name, rows in self.places.groupby("axis", sort=False):
            rows = rows.sort_values("place").drop_duplicates("place")
            scale = str(rows["scale"].iloc[0])
            found.append(Axis(str(name), scale, list(rows["value"]), list(rows["number"])))
        return found

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Rows of leaderboard.csv at each cell's judged step size, with `place` on each axis."""
        places = self.places.pivot(index="protocol", columns="axis", values="place")
        places.columns = [f"place {name}" for name in places.columns]
        return judged(self.tables["leaderboard.csv"]).merge(places, on="protocol")

    @cached_property
    def methods(self) -> list[Method]:
        """Every cell, the published ones first, and the baselines that an axis can show.

        Predicting zero has the score 1 everywhere.
        """
        cells = self.rows[self.rows["step"] != "none"].drop_duplicates(["algorithm", "cell"])
        every = self.tables.every_algorithm
        order = [
            (every.index(row.algorithm), list(ROLES).index(row.role)) for row in cells.itertuples()
        ]
        ranked = cells.assign(order=order).sort_values("order", kind="stable")
        several = ranked["algorithm"].duplicated(keep=False)
        further = ranked["algorithm"].duplicated()
        earlier = ranked.groupby(["algorithm", "role"]).cumcount()
        looks = map(_look, ranked["role"], earlier, further)
        found = [
            self._method(row.algorithm, row.cell, row.role, self._note(row, more), look)
            for row, more, look in zip(ranked.itertuples(), several, looks, strict=True)
        ]
        return found + [method for method in self._baselines if self._highest(method) >= LEAST]

    @cached_property
    def below(self) -> list[Method]:
        """The baselines whose scores are all too low for an axis."""
        return [method for method in self._baselines if self._highest(method) < LEAST]

    @cached_property
    def _baselines(self) -> list[Method]:
        known = set(self.rows.loc[self.rows["step"] == "none", "algorithm"])
        names = [name for name in self.tables.baselines if name in known]
        looks = {name: FLOOR if name == "bayes" else baseline(name) for name in names}
        every = [self._method(name, "-", "baseline", "", look) for name, look in looks.items()]
        return [method for method in every if self._highest(method) < 1]

    def _highest(self, method: Method) -> float:
        return float(self.of(method)["score"].max())

    @cached_property
    def lines(self) -> list[Method]:
        """What is drawn as a line: every method, or of many algorithms one cell each.

        That is the cell which is selected under the first protocol by name.
        """
        if not self.tables.crowded:
            return self.methods
        board = judged(self.tables.rows("leaderboard.csv", protocol=self.tables.protocols[0]))
        selected = board[board["selected"].astype(bool)]
        chosen = set(zip(selected["algorithm"], selected["cell"], strict=True))
        trained = [
            self._method(method.algorithm, method.cell, method.role, "", ROLES["published"])
            for method in self.methods
            if (method.algorithm, method.cell) in chosen
        ]
        return [*trained, *(method for method in self.methods if method.role == "baseline")]

    def of(self, method: Method) -> pd.DataFrame:
        """Return the rows of a method."""
        rows = self.rows
        return rows[(rows["algorithm"] == method.algorithm) & (rows["cell"] == method.cell)]

    def _method(
        self, algorithm: str, cell: str, role: str, note: str, look: dict[str, Any]
    ) -> Method:
        style = self.tables.styles[algorithm]
        look = {"color": style.colour, "marker": style.marker, **look}
        return Method(algorithm, cell, role, style.label + note, look)

    def _note(self, row: Any, more: bool) -> str:
        """Return what distinguishes a cell from others of its algorithm."""
        if row.role == "published" or not more:
            return ""
        return ", equal budget" if row.role == "equal-budget" else f", {row.cell}"


def _look(role: str, earlier: int, further: bool) -> dict[str, Any]:
    """Return the style of a cell.

    Args:
        role: Its role.
        earlier: How many cells of its algorithm and role come before it.
        further: Whether any of its algorithm does.
    """
    dash = {"linestyle": (0, FURTHER[(earlier - 1) % len(FURTHER)])} if earlier else {}
    return ROLES[role] | dash | ({"markerfacecolor": "white"} if further else {})
