"""A reference: what a repository keeps of a finished study, so that others can compare with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from metabench.analysis import reduction
from metabench.records import manifests
from metabench.views import figures


def write(root: Path, out: Path, advance: Callable[[], None] = lambda: None) -> None:
    """Write reduced tables, the figures that they give as PNG, and where they were computed.

    The folder replaces the one that is there, once it is complete. The same study gives the same
    bytes.

    Args:
        root: The study's folder, of which `tables` and `provenance.json` are read.
        out: The folder to write; it may be `root` itself.
        advance: Called after the tables and after each figure.

    Raises:
        ArtifactError: The tables are missing, damaged, or reduced already.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        new = Path(place) / "new"
        new.mkdir()
        shutil.copyfile(root / "provenance.json", new / "provenance.json")
        reduction.write(root / "tables", new / "tables")
        advance()
        _draw(new / "tables", new / "figures", advance)
        if out.exists():
            out.rename(Path(place) / "old")
        new.rename(out)


def _draw(tables: Path, out: Path, advance: Callable[[], None]) -> None:
    """Draw all figures and keep the PNG files, as `metabench figures` writes them.

    Drawn from the reduced tables: whoever draws these tables again gets the same bytes.
    """
    drawn = figures.draw_all(tables, out, advance)
    kept = [path.name for path in drawn if path.suffix == ".png"]
    for path in drawn:
        if path.suffix != ".png":
            path.unlink()
    manifests.write(out, kept, figures.header(manifests.read(tables)["content"]))
