"""PNG files with a palette: a third of the size of full colour, and visually the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

COLOURS = 256
"""The largest palette; with half as many colours, lines get a visible tint."""

SETTLED = 1000
"""Pixels, of half a million, that may still change colour when the palette is final."""


def write(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; equal figures give equal bytes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # figures are opaque
    # Maximum coverage keeps rare colours, such as that of one thin line; k-means then moves each to
    # the middle of the colours it represents. No dithering: its dots would look like data.
    few = picture.quantize(
        COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=SETTLED, dither=Image.Dither.NONE
    )
    few.save(path, format="PNG", optimize=True)
