"""What figures are drawn for: a screen, or a column of a paper."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import ceil
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metabench.views.drawing.style import GREY


class Medium(NamedTuple):
    """What figures are drawn for. All lengths are inches, all sizes of letters points.

    Args:
        narrow: Width and height of a figure of one panel, but for a legend below it.
        wide: Width of others, where they need no more.
        widest: Width of a figure that can break its panels into rows, or make them smaller.
        line: Letters that have room in a line beside or below one panel.
        legend: Height of a legend for which panels make room; a higher one adds to its figure.
        beside: Whether one panel has its legend beside it, and not below.
        titles: Whether a figure says what it shows; in a paper its caption does.
        label: Size of the letters of axes and titles.
        tick: That of ticks and legends.
        field: That of numbers in the fields of a table of colours.
        fonts: What letters and formulas are set in; both come with matplotlib.
    """

    narrow: tuple[float, float]
    wide: float
    widest: float
    line: int
    legend: float
    beside: bool
    titles: bool
    label: float
    tick: float
    field: float
    fonts: dict[str, str]

    @property
    def settings(self) -> Any:
        """Settings of matplotlib."""
        sizes = dict.fromkeys(LABELS, self.label) | dict.fromkeys(TICKS, self.tick)
        return RC | sizes | self.fonts


SCREEN = Medium(
    narrow=(6.5, 3.4),
    wide=6.5,
    widest=11.9,
    line=80,
    legend=1.05,
    beside=True,
    titles=True,
    label=8,
    tick=7,
    field=6,
    fonts={"font.family": "DejaVu Sans"},
)

PAPER = Medium(
    narrow=(3.5, 2.4),
    wide=7.2,
    widest=7.2,
    line=32,
    legend=0.4,
    beside=False,
    titles=False,
    label=9,
    tick=8,
    field=7,
    fonts={"font.family": "STIXGeneral", "mathtext.fontset": "stix"},
)
"""Columns of journals; letters as the Times of LaTeX, bold and slanted ones included."""

MEDIA = {"screen": SCREEN, "paper": PAPER}

LABELS = ("font.size", "axes.labelsize", "axes.titlesize", "figure.labelsize", "figure.titlesize")
TICKS = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")

RC: dict[str, Any] = {
    # The style "ticks" of seaborn, written out, since importing seaborn takes a second.
    "axes.axisbelow": True,
    "axes.edgecolor": ".15",
    "axes.labelcolor": ".15",
    "text.color": ".15",
    "xtick.color": ".15",
    "ytick.color": ".15",
    "grid.color": ".8",
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "patch.linewidth": 0.8,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "xtick.major.size": 3.5,
    "ytick.major.size": 3.5,
    "xtick.minor.size": 2,
    "ytick.minor.size": 2,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "svg.hashsalt": "metabench",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}

_chosen: ContextVar[Medium] = ContextVar("medium", default=SCREEN)


def medium() -> Medium:
    """Return what is drawn for: a screen, unless `settings` says otherwise."""
    return _chosen.get()


@contextmanager
def settings(name: str = "screen") -> Iterator[None]:
    """Draw for one of `MEDIA`, whatever the user's own settings of matplotlib are."""
    chosen = _chosen.set(MEDIA[name])
    try:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(medium().settings)
            yield
    finally:
        _chosen.reset(chosen)


def canvas(height: float, least: float = 0) -> Figure:
    """Return a figure for several panels, wider than usual where `least` asks for it."""
    return Figure(figsize=(max(medium().wide, least), height), layout="constrained")


def canvas_of_panels(count: int, most: int, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with some panels of x and y, which share their axes.

    Args:
        count: Number of panels.
        most: The most panels in a row.
        height: Height of a row.
    """
    columns = min(most, count)
    rows = ceil(count / columns)
    figure = canvas(0.8 + height * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[count:]:
        axes.remove()
    for axes in panels.flat[count - columns : count]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("x")
    for axes in panels[:, 0]:
        axes.set_ylabel("y")
    return figure, list(panels.flat[:count])


def canvas_of_one() -> Figure:
    """Return a figure for one panel, which a paper sets in one column."""
    return Figure(figsize=medium().narrow, layout="constrained")


def in_lines(text: str) -> str:
    """Break what stands beside or below one panel into lines about as long as each other."""
    found = []
    for line in text.split("\n"):
        parts = ceil(len(line) / medium().line)
        found += textwrap.wrap(line, len(line) // parts + SPARE) if parts > 1 else [line]
    return "\n".join(found)


SPARE = 5
"""Letters that one line may be longer than another."""


def headline(figure: Figure, text: str, axes: Axes | None = None, **place: Any) -> None:
    """Set the headline of a figure: its title where the medium has titles, else for its caption.

    Args:
        figure: The figure, whose label keeps the text.
        text: The headline.
        axes: The only panel, whose title it is.
        place: Where the title of several panels stands.
    """
    figure.set_label(text)
    if not medium().titles:
        return
    if axes is None:
        figure.suptitle(text, **place)
    else:
        axes.set_title(text)


def legend_beside(figure: Figure, axes: Axes) -> None:
    """Add a legend of the lines of the only panel, beside it where there is room."""
    if medium().beside:
        figure.legend(loc="outside right upper")
    else:
        for line in axes.get_lines():
            line.set_label(in_lines(str(line.get_label())))
        legend_below(figure, axes, 2)


def legend_below(figure: Figure, axes: Axes, most: int) -> None:
    """Add a legend of the lines of some axes below all panels, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    for columns in range(most, 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        size = legend.get_window_extent()
        if columns == 1 or size.width <= figure.bbox.width:
            break
        legend.remove()
    height, room = size.height / figure.dpi, medium().legend
    if height > room:
        figure.set_figheight(figure.get_figheight() + height - room / 2)


def message(text: str) -> Figure:
    """Return a figure that only says why there is nothing to show."""
    figure = Figure(figsize=(medium().wide, 1))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=GREY)
    return figure
