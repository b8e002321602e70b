"""The style of figures: the same for an algorithm in all of them, with reproducible bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from math import floor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from metabench.records.artifacts import replacing
from metabench.views.drawing import pixels

LOSS = "MSE on the query grid"

GREY = "#6e6e6e"

NAME = 24
"""The most letters of a name in one line."""

NO_LOSS = np.array([0.1, 10.0])
"""Limits of a logarithmic loss axis without losses to fit."""


class Style(NamedTuple):
    """The style of one algorithm."""

    label: str
    colour: str
    marker: str

    @property
    def line(self) -> str:
        """The label in one line."""
        return in_one_line(self.label)


# The palettes of Okabe and Ito, https://jfly.uni-koeln.de/color/, and of Tol (muted):
# distinguished by colour-blind readers. So many colours are more than anyone distinguishes easily;
# markers help.
KNOWN = {
    "fomaml": Style("FOMAML", "#D55E00", "o"),
    "reptile": Style("Reptile", "#0072B2", "s"),
    "joint": Style("Joint training", "#009E73", "^"),
    "random": Style("Random init.", "#CC79A7", "D"),
    "maml": Style("MAML", "#E69F00", "v"),
    "anil": Style("ANIL", "#56B4E9", "p"),
    "meta_sgd": Style("Meta-SGD", "#882255", "h"),
    "meta_curvature": Style("Meta-Curvature", "#DDCC77", "2"),
    "maml_plus_plus": Style("MAML++", "#332288", "d"),
    "imaml": Style("iMAML", "#225522", "$i$"),
    "t_net": Style("T-net", "#EE8866", "$t$"),
    "cavia": Style("CAVIA", "#44AA99", "<"),
    "ridge": Style("Ridge head", "#999933", ">"),
    "neural_process": Style("Neural process", "#AA4499", "8"),
    "alpaca": Style("ALPaCA", "#BB5566", "3"),
    "deep_kernel": Style("Deep kernel transfer", "#004488", "4"),
    "conditional_neural_process": Style("Conditional NP", "#EE3377", "$C$"),
    "transformer_neural_process": Style("Transformer NP", "#BBCC33", "$T$"),
    "in_context_transformer": Style("In-context\ntransformer", "#77AADD", "$I$"),
    "fomaml_tail": Style("FOMAML, tail", "#661100", "H"),
    "dr_maml": Style("DR-MAML", "#4477AA", "$D$"),
    "lstm": Style("LSTM", "#228833", "$L$"),
    "mmaml": Style("MMAML", "#AA3377", "$M$"),
    "bayes": Style("Bayes-optimal", "#333333", "1"),
    "gaussian-process": Style("GP, given kernel", "#000000", "X"),
    "gaussian-process-fitted": Style("GP, fitted kernel", "#4d4d4d", "x"),
    "gaussian-process-noise": Style("GP, known noise", "#7a5195", "."),
    "gaussian-process-periodic": Style("GP, known period", "#777777", "+"),
    "linear": Style("Linear model", "#996633", "|"),
    "training-mean": Style("Training mean", "#5f9e6e", "$m$"),
    "zero": Style("Zero predictor", "#8c8c8c", "P"),
    "least-squares": Style("Least squares", "#b8b8b8", "*"),
}

OTHERS = ("#117733", "#CC6677", "#88CCEE", "#A07A2E", "#6E6EB4", "#8A8A2A")
"""Colours of algorithms without an assigned one."""

MARKERS = "vphd<>8H"


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Return a style for each name; unknown ones get free colours in alphabetical order."""
    names = sorted(set(names))
    unknown = [name for name in names if name not in KNOWN]
    found = {}
    for n, (name, colour) in enumerate(zip(unknown, _colours(len(unknown)), strict=True)):
        found[name] = Style(broken(name), colour, MARKERS[n % len(MARKERS)])
    return {name: KNOWN.get(name) or found[name] for name in names}


def _colours(count: int) -> list[str]:
    """Return colours for algorithms without an assigned one."""
    import seaborn as sns  # takes a second, which who asks only for the names of figures is spared

    more = max(count - len(OTHERS), 0)
    further = sns.husl_palette(more, l=0.45).as_hex() if more else []
    return [*OTHERS, *further][:count]


def broken(name: str) -> str:
    r"""Break a long name into lines, after an underscore or a hyphen if possible.

    Example:
        >>> broken("reptile"), broken("a_method_with_a_very_long_name")
        ('reptile', 'a_method_with_a_\nvery_long_name')
    """
    if len(name) <= NAME:
        return name
    lines = textwrap.wrap(name.replace("_", "_ "), NAME)
    return "\n".join(line.replace("_ ", "_") for line in lines)


def in_one_line(label: str) -> str:
    r"""Return a label of the figures in one line.

    Those of known algorithms are broken between words, long names of others anywhere.

    Example:
        >>> in_one_line("In-context\ntransformer, selected"), in_one_line("a_long_\nname")
        ('In-context transformer, selected', 'a_long_name')
    """
    for known in KNOWN.values():
        label = label.replace(known.label, known.label.replace("\n", " "))
    return label.replace("\n", "")


def titled(name: str, text: str) -> str:
    """Return a title that begins with a name; a long name gets its own lines."""
    return f"{broken(name)}{' ' if len(name) <= NAME else chr(10)}{text}"


def inches(text: str, size: float = 7) -> float:
    """Return the approximate width of a text at a size in points."""
    return 0.0083 * size * max(map(len, text.split("\n")))


METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Metadata that matplotlib would otherwise add: the time and its version."""

KINDS = ("svg", "png")
"""The file formats of each figure of a study."""


def save(figure: Figure, stem: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Write a figure in some formats; equal figures give equal bytes."""
    FigureCanvasAgg(figure)
    if layout := figure.get_layout_engine():
        layout.execute(figure)
    figure.set_layout_engine(None)  # computed once; "none" would have each file compute it again
    written = []
    for kind in kinds:
        path = stem.with_name(f"{stem.name}.{kind}")
        with replacing(path) as temporary:
            if kind == "png":
                pixels.write(figure, temporary)
            else:
                figure.savefig(temporary, format=kind, metadata=METADATA[kind])
        written.append(path)
    return written


def loss_axis(
    axes: Axes, which: Literal["x", "y"], losses: NDArray[np.float64], margin: float = 1.2
) -> None:
    """Make an axis logarithmic, fit it to the finite losses, and format its numbers.

    Args:
        axes: Where.
        which: The axis.
        losses: All values that should be on it; non-finite ones are ignored.
        margin: Free factor at both ends.
    """
    known = losses[np.isfinite(losses) & (losses > 0)]
    if not len(known):
        known = NO_LOSS
    # Limits come first: a logarithmic axis cannot find its own where no loss is above 0.
    axes.set(**{f"{which}lim": (known.min() / margin, known.max() * margin)})
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    span = known.max() / known.min()
    if span * margin**2 < NARROW:
        axis.set_major_locator(MaxNLocator(FEW[which]))
    else:
        axis.set_major_locator(LogLocator(subs=_ticks(span, DENSE[which]), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick_text(value)))
    axis.set_minor_formatter(NullFormatter())


NARROW, FEW = 2.0, {"x": 3, "y": 5}
"""The ratio of the ends of an axis below which its numbers are evenly spaced, and how many."""

DENSE = {"x": 60, "y": 1000}
"""The ratio of the ends of an axis above which only powers of ten have numbers.

Beside each other they need more room than above each other.
"""


def _ticks(span: float, dense: float) -> tuple[float, ...]:
    """Return the ticks of each power of ten, given the ratio of the ends of the axis."""
    if span > dense:
        return (1,)
    return (1, 2, 5) if span > 8 else (1, 1.5, 2, 3, 5, 7)


def _tick_text(value: float) -> str:
    """Format a number of an axis; small ones as a power of ten."""
    if value >= 0.0005:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    factor = "" if mantissa == "1" else f"{mantissa}\\times"
    return f"${factor}10^{{{int(exponent)}}}$"


def whole(value: float) -> str:
    """Format a number without decimals; a half is rounded up.

    The numbers of the report's charts are rounded in this way, by the browser. Python's own rule
    would round a half to the even number: 92.5 to 92, and 56.5 to 56.

    Example:
        >>> whole(92.5), whole(56.49999999999999), whole(7.4)
        ('93', '57', '7')
    """
    # Half of a percent comes from a binary fraction that may lie just below it.
    return str(floor(round(value, 9) + 0.5))


def compact(value: float) -> str:
    """Format a number with three digits, and large ones short.

    Example:
        >>> compact(0.04925), compact(5.0), compact(1292958.0), compact(-40024.0)
        ('0.0493', '5', '1.3e6', '-4e4')
    """
    if abs(value) < 1000 or not np.isfinite(value):
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
