"""Every figure of a study, drawn from its table files alone.

Each file of this folder declares and draws one family of figures:

    NAME       name of its files without suffix, with fields in braces
    CHOICES    values of fields that are not those of a study (optional)
    CATEGORY   its heading in the report
    CAPTION    its caption in the report, in reStructuredText, with parts of `SAID` in braces
    needed     whether a study has it, by its fields (optional)
    draw       draws one figure from the tables of a study and the fields of its name

Statistics and their intervals come from the tables; a figure computes none. The same tables give
the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from pkgutil import iter_modules
from string import Formatter
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from metabench.records import manifests
from metabench.records.artifacts import write_text
from metabench.records.provenance import code_digest, made_from
from metabench.views.drawing import curves, lines, medium, style
from metabench.views.drawing.reading import Fields, Tables

PACKAGES = ("matplotlib", "pillow", "seaborn", "numpy", "pandas")
"""The packages on whose versions the bytes of a figure may depend."""

CAPTIONS = "captions.md"
"""The captions of figures without titles."""

SAID = {"lines": lines.KEY, "intervals": curves.INTERVALS, "seeds": curves.SEEDS}
"""Parts of captions, by whether the study is crowded."""


class Family(NamedTuple):
    """A family of figures: the declarations of a file of this folder.

    Args:
        key: Name of the file, without suffix.
        name: Name of each figure, with its fields in braces.
        choices: Values of the fields that a study does not fill.
        category: Heading in the report.
        caption: Caption in the report.
        needed: Whether a study has it.
        draw: Draws one figure from tables and fields.
    """

    key: str
    name: str
    choices: Mapping[str, Sequence[str]]
    category: str
    caption: str
    needed: Callable[[Fields], bool]
    draw: Callable[..., Figure]

    @property
    def fields(self) -> list[str]:
        """The fields of the name."""
        return [field for _, field, _, _ in Formatter().parse(self.name) if field]


CHOSEN = dict.fromkeys(("noisy", "distant", "recurring", "gridded", "curved"), "protocol")
"""What the fields are that choose among the protocols."""


class Picture(NamedTuple):
    """One figure of a study.

    Args:
        family: Family of the figure.
        fields: Values of the fields in the family's name.
        crowded: Whether the study has too many algorithms for two lines and a band each.
    """

    family: Family
    fields: dict[str, str]
    crowded: bool

    @property
    def stem(self) -> str:
        """File name without suffix."""
        return self.family.name.format(**self.fields)

    @property
    def labels(self) -> dict[str, str]:
        """What tells it from the others under its heading in the report."""
        found = {CHOSEN.get(name, name): value for name, value in self.fields.items()}
        return found or {"figure": self.family.key.replace("_", " ")}

    @property
    def caption(self) -> str:
        """What the report says below it."""
        parts = {name: texts[self.crowded].strip() for name, texts in SAID.items()}
        return self.family.caption.format(**parts)

    def draw(self, tables: Tables) -> Figure:
        """Draw it."""
        return self.family.draw(tables, **self.fields)


def _modules() -> list[str]:
    """Return the full names of the files of this folder: whatever lies here is a figure."""
    return [f"{__name__}.{module.name}" for module in iter_modules(__path__)]


@cache
def families() -> tuple[Family, ...]:
    """Return the declarations of each file of this folder, in the order of their names."""
    return tuple(_family(name) for name in _modules())


def _family(name: str) -> Family:
    """Return the declarations of one file."""
    module = import_module(name)
    return Family(
        key=name.rpartition(".")[2],
        name=module.NAME,
        choices=getattr(module, "CHOICES", {}),
        category=module.CATEGORY,
        caption=module.CAPTION,
        needed=getattr(module, "needed", lambda fields: True),
        draw=module.draw,
    )


def of_study(fields: Fields) -> list[Picture]:
    """Return the figures of a study, which are known before it runs.

    Example:
        >>> [picture.stem for picture in of_study(Fields(protocol=["standard"]))][:3]
        ['adaptation_standard_score', 'adaptation_standard_mean', 'candidates']
    """
    needed = [family for family in families() if family.needed(fields)]
    return [picture for family in needed for picture in _pictures(family, fields)]


def of_tables(tables: Tables) -> list[Picture]:
    """Return the figures of the study that has these tables."""
    return of_study(tables.fields)


def _pictures(family: Family, fields: Fields) -> Iterator[Picture]:
    """Yield a figure for each combination of the values of a family's fields."""
    values = {**fields._asdict(), **family.choices}
    for filling in product(*(values[field] for field in family.fields)):
        yield Picture(family, dict(zip(family.fields, filling, strict=True)), fields.crowded)


def _caption(picture: Picture, figure: Figure) -> str:
    """Return what stands below a figure in a paper: its title, and its caption."""
    title = " ".join(str(figure.get_label()).split())
    heading = f"Title: {title}.\n\n" if title else ""
    return f"## {picture.stem}\n\n{heading}{picture.caption.strip()}\n"


def header(tables: str) -> dict[str, Any]:
    """Return the inputs of figures; `tables` is the digest of the content of the tables."""
    code = code_digest(__name__, *_modules())
    return made_from("figures", {}, code, PACKAGES, tables=tables)


def count(folder: Path) -> int:
    """Return the number of figures of a study; raise as `draw_all` does."""
    manifests.read(folder)
    tables = Tables(folder)
    return len(of_tables(tables))


def draw_all(
    folder: Path,
    out: Path,
    advance: Callable[[], None] = lambda: None,
    kinds: Sequence[str] = style.KINDS,
    look: str = "screen",
) -> list[Path]:
    """Draw all figures of a study, and finally write their manifest.

    Args:
        folder: The study's tables.
        out: Where to write.
        advance: Called after each figure.
        kinds: What kinds of files: png, svg or pdf.
        look: What they are drawn for, of `medium.MEDIA`. Without titles in figures, `CAPTIONS` says
            what each of them shows.

    Returns:
        The files: those of `of_tables`, and their captions.

    Raises:
        ArtifactError: A table is missing or damaged, or differs from its folder's manifest.
    """
    made = header(manifests.read(folder)["content"])
    tables = Tables(folder)
    written: list[Path] = []
    captions: list[str] = []
    with medium.settings(look):
        for picture in of_tables(tables):
            figure = picture.draw(tables)
            captions.append(_caption(picture, figure))
            written += style.save(figure, out / picture.stem, kinds)
            advance()
    if not medium.MEDIA[look].titles:
        write_text(out / CAPTIONS, "\n".join(captions))
        written.append(out / CAPTIONS)
    manifests.write(out, [path.name for path in written], made)
    return written
