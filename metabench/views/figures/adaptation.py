"""Loss on the whole grid against updates: how fast each initialization adapts."""

from __future__ import annotations

from matplotlib.figure import Figure

from metabench.views.figures.curves import curves
from metabench.views.figures.reading import Tables
from metabench.views.figures.style import LOSS, WIDTH


def draw(tables: Tables, protocol: str, statistic: str) -> Figure:
    """Draw the mean or the median loss of one protocol."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    curves(axes, tables, protocol, "all", statistic)
    axes.set_ylabel(f"{statistic} {LOSS}")
    axes.set_title(f"{protocol} protocol: {statistic} over {tables.size(protocol)}{tables.note}")
    figure.legend(loc="outside right upper")
    return figure
