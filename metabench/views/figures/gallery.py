"""Which module draws which family of figures."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from metabench.views.figures import (
    adaptation,
    comparisons,
    equal_budget,
    robustness_regions,
    showcase,
    step_sizes,
    task_losses,
    validation_curves,
)
from metabench.views.figures.names import family_of
from metabench.views.figures.reading import Tables

DRAW: dict[str, Callable[..., Figure]] = {
    "adaptation": adaptation.draw,
    "comparisons": comparisons.draw,
    "equal_budget": equal_budget.draw,
    "robustness_regions": robustness_regions.draw,
    "showcase": showcase.draw,
    "step_sizes": step_sizes.draw,
    "task_losses": task_losses.draw,
    "validation_curves": validation_curves.draw,
}


def draw(stem: str, tables: Tables) -> Figure:
    """Draw one figure of a study by its name."""
    family, fields = family_of(stem)
    return DRAW[family.name](tables, **fields)
