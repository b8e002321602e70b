"""The charts of a report, as Vega-Lite specifications with their data.

Each choice of the reader is a parameter of a chart; the page's script sets it. `highlight` is the
cell selected in a chart or in the leaderboard, shared by all charts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import altair as alt

from metabench.views.drawing.reading import Tables
from metabench.views.report.charts.adaptation import adaptation
from metabench.views.report.charts.candidates import candidates
from metabench.views.report.charts.differences import differences
from metabench.views.report.charts.distributions import distributions
from metabench.views.report.charts.grids import grids
from metabench.views.report.charts.maps import maps
from metabench.views.report.charts.matrix import matrix
from metabench.views.report.charts.parts import Chart, Control
from metabench.views.report.charts.showcase import showcase
from metabench.views.report.charts.task_by_task import task_by_task


def every(tables: Tables, protocols: Sequence[str], confidence: float) -> list[Chart]:
    """Return the charts of a study.

    Args:
        tables: Tables of the study.
        protocols: Its protocols, the main one first.
        confidence: Confidence level of the intervals.
    """
    choice = Control("protocol", "protocol", tuple(protocols))
    makers: tuple[Callable[[Tables, Control, float], Chart | None], ...] = (
        adaptation,
        candidates,
        matrix,
        task_by_task,
        distributions,
        grids,
        maps,
        differences,
        showcase,
    )
    with alt.data_transformers.enable("default", max_rows=None):
        found = [make(tables, choice, confidence) for make in makers]
    return [chart for chart in found if chart is not None]
