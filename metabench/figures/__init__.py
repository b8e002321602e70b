"""Every figure of a study, drawn from its table files alone.

Statistics and their intervals come out of the tables; a figure computes none. The same tables give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from metabench.figures.names import figure_names, report_entry

__all__ = ["count", "draw_all", "figure_names", "report_entry"]


def count(folder: Path) -> int:
    """Return how many figures a study has."""
    from metabench.figures.reading import Tables

    tables = Tables(folder)
    return len(figure_names(tables.algorithms, tables.protocols))


def draw_all(folder: Path, out: Path, advance: Callable[[], None] = lambda: None) -> list[Path]:
    """Draw all figures of a study, each as SVG and as PNG.

    Args:
        folder: The study's tables.
        out: Where to write.
        advance: Called after each figure.

    Returns:
        The files: those of `figure_names` for the study's published algorithms and its protocols.
    """
    from metabench.figures import gallery, style
    from metabench.figures.reading import Tables

    tables = Tables(folder)
    written = []
    with style.settings():
        for stem in figure_names(tables.algorithms, tables.protocols):
            written += style.save(gallery.draw(stem, tables), out / stem)
            advance()
    return written
