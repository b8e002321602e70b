"""How figures look: one colour and marker for each algorithm in all of them, and the same bytes
each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from metabench.records.artifacts import replacing

WIDTH = 6.5
"""Inches: the text width of a page."""

LOSS = "MSE on the query grid"

GREY = "#6e6e6e"


class Style(NamedTuple):
    """How one algorithm looks."""

    label: str
    colour: str
    marker: str


# The palettes of Okabe and Ito, https://jfly.uni-koeln.de/color/, and of Tol (muted):
# told apart by colour-blind readers. Twelve colours are more than anyone tells apart with ease;
# markers help.
KNOWN = {
    "fomaml": Style("FOMAML", "#D55E00", "o"),
    "reptile": Style("Reptile", "#0072B2", "s"),
    "joint": Style("Joint training", "#009E73", "^"),
    "random": Style("Random init.", "#CC79A7", "D"),
    "maml": Style("MAML", "#E69F00", "v"),
    "anil": Style("ANIL", "#56B4E9", "p"),
    "meta_sgd": Style("Meta-SGD", "#882255", "h"),
    "maml_plus_plus": Style("MAML++", "#332288", "d"),
    "cavia": Style("CAVIA", "#44AA99", "<"),
    "ridge": Style("Ridge head", "#999933", ">"),
    "neural_process": Style("Neural process", "#AA4499", "8"),
    "fomaml_tail": Style("FOMAML, tail", "#661100", "H"),
    "gaussian-process": Style("Gaussian process", "#000000", "X"),
    "zero": Style("Zero predictor", "#8c8c8c", "P"),
    "least-squares": Style("Least squares", "#b8b8b8", "*"),
}

OTHERS = ("#117733", "#CC6677", "#88CCEE", "#A07A2E", "#6E6EB4", "#8A8A2A")
"""Colours of algorithms that have none of their own."""

MARKERS = "vphd<>8H"


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Return a style for each name; unknown ones get the next free colour in the order of the
    alphabet.
    """
    names = sorted(set(names))
    unknown = [name for name in names if name not in KNOWN]
    more = max(len(unknown) - len(OTHERS), 0)
    colours = [*OTHERS, *sns.husl_palette(more, l=0.45).as_hex()] if more else OTHERS
    found = {
        name: Style(name, colours[n], MARKERS[n % len(MARKERS)]) for n, name in enumerate(unknown)
    }
    return {name: KNOWN.get(name) or found[name] for name in names}


@contextmanager
def settings() -> Iterator[None]:
    """Draw under the project's settings, whatever the user's own are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(sns.axes_style("ticks") | sns.plotting_context("paper"))
        matplotlib.rcParams.update(RC)
        yield


RC: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine has it
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
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
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "svg.hashsalt": "metabench",
    "svg.fonttype": "path",
}

METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}
"""What matplotlib would else put in: the time and its version."""


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as SVG and as PNG; equal figures give equal bytes."""
    FigureCanvasAgg(figure)
    written = []
    for kind, metadata in METADATA.items():
        path = stem.with_name(f"{stem.name}.{kind}")
        with replacing(path) as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata)
        written.append(path)
    return written


def message(text: str) -> Figure:
    """Return a figure that only says why there is nothing to show."""
    figure = Figure(figsize=(WIDTH, 1))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=GREY)
    return figure


def loss_axis(
    axes: Axes, which: Literal["x", "y"], losses: NDArray[np.float64], margin: float = 1.2
) -> None:
    """Make an axis logarithmic, fit it to the finite losses, and spell its numbers out.

    Args:
        axes: Where.
        which: The axis.
        losses: Everything that should be on it; what is not finite is passed over.
        margin: Factor left free at both ends.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log"})
    known = losses[np.isfinite(losses) & (losses > 0)]
    if len(known):
        axes.set(**{f"{which}lim": (known.min() / margin, known.max() * margin)})
    span = known.max() / known.min() if len(known) else 1
    subs = (1,) if span > 1000 else (1, 2, 5) if span > 8 else (1, 1.5, 2, 3, 5, 7)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: _power(value) if value < 0.0005 else f"{value:g}")
    )
    axis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    mantissa, exponent = f"{value:.0e}".split("e")
    return (
        f"$10^{{{int(exponent)}}}$"
        if mantissa == "1"
        else f"${mantissa}\\times10^{{{int(exponent)}}}$"
    )


def compact(value: float) -> str:
    """Spell a number with three digits, and large ones short.

    Example:
        >>> compact(0.04925), compact(5.0), compact(1292958.0), compact(-40024.0)
        ('0.0493', '5', '1.3e6', '-4e4')
    """
    if abs(value) < 1000 or not np.isfinite(value):
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
