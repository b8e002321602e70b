"""PNG files with a palette: close to the drawing, with the same bytes each time."""

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from metabench.views.drawing import medium, pixels


def drawing() -> Figure:
    """A thin line of a rare colour over an image with more colours than a palette has."""
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.imshow(np.linspace(0, 1, 64 * 64).reshape(64, 64), extent=(0, 1, 0, 1), cmap="viridis")
    axes.plot([0, 1], [0.2, 0.7], color="#D55E00", linewidth=0.8)
    return figure


def as_drawn(figure: Figure) -> np.ndarray:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB")).astype(int)


def test_no_pixel_is_far_from_what_was_drawn(tmp_path):
    with medium.settings():
        pixels.write(drawing(), tmp_path / "a.png")
        wanted = as_drawn(drawing())
    found = Image.open(tmp_path / "a.png")
    assert found.mode == "P"
    far = np.abs(np.asarray(found.convert("RGB")).astype(int) - wanted)
    assert len(np.unique(wanted.reshape(-1, 3), axis=0)) > 2 * pixels.COLOURS
    assert far.max() <= 25 and far.mean() < 2
    assert far[(wanted == 255).all(-1)].max() == 0  # white stays white


def test_the_same_figure_gives_the_same_bytes_in_less_room(tmp_path):
    with medium.settings():
        for name in ("a.png", "b.png"):
            pixels.write(drawing(), tmp_path / name)
        drawing().savefig(tmp_path / "full.png")
    first, second, full = (
        (tmp_path / name).read_bytes() for name in ("a.png", "b.png", "full.png")
    )
    assert first == second and len(first) < 0.6 * len(full)
    assert b"Software" not in first
