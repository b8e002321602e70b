"""The grids that the cells of an algorithm form, over any of its hyperparameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from metabench.analysis.columns import HYPERPARAMETERS

if TYPE_CHECKING:  # it brings torch, which no figure needs
    from metabench.study.cells import Cell

NAMING = ("algorithm", "cell", "role")
"""Columns of cells.csv that name a cell; all others are hyperparameters, of whatever algorithm."""

STEP_SIZES = ("inner_step_size", "meta_step_size")
"""Hyperparameters that are preferred as axes."""

SPARSE = 2.5
"""The smallest mean number of cells per grid; with fewer, many grids would show nothing."""

FEW = 8
"""Number of grids that is always acceptable."""


def planned(cells: Iterable[Cell]) -> pd.DataFrame:
    """Return the settings of cells as in cells.csv, which a study does not have before it runs."""
    rows = []
    for cell in cells:
        read = {"meta_iterations": cell.meta_iterations, **cell.hyperparameters.model_dump()}
        beyond = {**cell.network.model_dump(), "training_tasks": cell.tasks.training_tasks}
        named = dict(zip(NAMING, (cell.algorithm, cell.name, cell.role), strict=True))
        # Some values are lists, of which pandas cannot count the different ones.
        further = {key: str(value) for key, value in beyond.items()}
        rows.append({**named, **dict.fromkeys(HYPERPARAMETERS), **read, **further})
    return pd.DataFrame(rows)


def form_grids(cells: pd.DataFrame) -> bool:
    """Return whether the cells of a study form grids: a few, or some with several cells each."""
    sizes = [
        len(group)
        for name in sorted(set(cells["algorithm"]))
        for group in _groups(settings(cells, name))
    ]
    return bool(sizes) and (len(sizes) <= FEW or sum(sizes) >= SPARSE * len(sizes))


def _groups(known: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the cells of each grid of an algorithm; none if it has nothing for an axis."""
    if across := axes(known, 2):
        for _, group in panels(known, across):
            yield group


def settings(cells: pd.DataFrame, algorithm: str) -> pd.DataFrame:
    """Return the hyperparameters that an algorithm reads, step sizes first: a row for each cell."""
    mine = (cells["algorithm"] == algorithm) & cells["role"].isin(["published", "grid"])
    found = cells[mine].set_index("cell")
    known = [name for name in cells if name not in NAMING and found[name].notna().any()]
    sizes = [size for size in STEP_SIZES if size in known]
    return found[sizes + [name for name in known if name not in sizes]]


def panels(known: pd.DataFrame, across: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Return the cells of each grid, with the settings that they share and others do not."""
    others = [name for name in varied(known) if name not in across]
    if not others:
        return [({}, known)]
    groups = known.groupby(others, dropna=False)
    return [(dict(zip(others, values, strict=True)), group) for values, group in groups]


def varied(known: pd.DataFrame) -> list[str]:
    """Return the hyperparameters that vary."""
    return [str(name) for name in known if known[name].nunique(dropna=False) > 1]


def axes(known: pd.DataFrame, count: int) -> list[str]:
    """Return the hyperparameters on the axes, the vertical one first.

    They are the first that vary. If fewer vary than there are axes, a constant step size is used.
    """
    changing = varied(known)
    shapes = [tuple(pd.factorize(known[name], use_na_sentinel=False)[0]) for name in changing]
    # What varies only together with another is no grid, but settings that are given side by side.
    free = [
        name
        for name, shape in zip(changing, shapes, strict=True)
        if name in STEP_SIZES or shapes.count(shape) == 1
    ]
    fixed = [size for size in STEP_SIZES if size in known and size not in changing]
    chosen = [*free, *fixed][:count]
    return sorted(chosen, key=list(known.columns).index)
