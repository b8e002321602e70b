"""What is visible in a drawn figure, and where."""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from metabench.views.drawing import medium


def drawn(draw: Callable[[], Figure], look: str = "screen") -> Figure:
    """Draw a figure for real, under the project's settings."""
    with medium.settings(look):
        figure = draw()
        FigureCanvasAgg(figure).draw()
    return figure


def boxes(figure: Figure) -> dict[str, Bbox]:
    """Return where legends, titles and labels of axes are, as shares of the figure."""
    found = {f"legend {n}": legend for n, legend in enumerate(figure.legends)}
    for n, axes in enumerate(figure.axes):
        for text in (*title(axes), axes.xaxis.label, axes.yaxis.label):
            if text.get_text():
                found[f"{text.get_text()} {n}"] = text
    change = figure.transFigure.inverted()
    return {name: change.transform_bbox(shape.get_window_extent()) for name, shape in found.items()}


def title(axes: Axes) -> list[Text]:
    """Return the text that is the title of some axes, which is on the left."""
    children = [child for child in axes.get_children() if isinstance(child, Text)]
    return [text for text in children if text.get_text() == axes.get_title(loc="left")]


def within(box: Bbox) -> bool:
    """Return whether something lies in its figure, but for a hair."""
    return min(box.x0, box.y0) > -0.005 and max(box.x1, box.y1) < 1.005
