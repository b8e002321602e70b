"""Every figure of a study, drawn from its table files alone.

Statistics and their intervals come out of the tables; a figure computes none. The same tables give
the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from metabench.records.provenance import code_digest, made_from
from metabench.views.figures.names import figure_names, report_entry

__all__ = ["count", "draw_all", "figure_names", "header", "report_entry"]

PACKAGES = ("matplotlib", "seaborn", "numpy", "pandas")
"""The packages on whose version the bytes of a figure may depend."""


def header(tables: str) -> dict[str, Any]:
    """Return what figures are made from; `tables` is the digest of the content of the tables."""
    code = code_digest("metabench.views.figures", "metabench.views.figures.gallery")
    return made_from("figures", {}, code, PACKAGES, tables=tables)


def count(folder: Path) -> int:
    """Return how many figures a study has; raise as `draw_all` does."""
    from metabench.records import manifests
    from metabench.views.figures.reading import Tables

    manifests.read(folder)
    tables = Tables(folder)
    return len(figure_names(tables.algorithms, tables.protocols))


def draw_all(folder: Path, out: Path, advance: Callable[[], None] = lambda: None) -> list[Path]:
    """Draw all figures of a study, each as SVG and as PNG, and last of all write their manifest.

    Args:
        folder: The study's tables.
        out: Where to write.
        advance: Called after each figure.

    Returns:
        The files: those of `figure_names` for the study's published algorithms and its protocols.

    Raises:
        ArtifactError: A table is missing, damaged, or another than the manifest of its folder says.
    """
    from metabench.records import manifests
    from metabench.views.figures import gallery, style
    from metabench.views.figures.reading import Tables

    made = header(manifests.read(folder)["content"])
    tables = Tables(folder)
    written: list[Path] = []
    with style.settings():
        for stem in figure_names(tables.algorithms, tables.protocols):
            written += style.save(gallery.draw(stem, tables), out / stem)
            advance()
    manifests.write(out, [path.name for path in written], made)
    return written
