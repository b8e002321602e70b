"""The pages that code writes: tables and their columns, algorithms, public names, the gallery."""

import inspect
import re
import sys
from collections import defaultdict
from pathlib import Path

import links
import yaml

import metabench
from metabench.analysis import columns, tables
from metabench.learning import algorithms
from metabench.views import figures
from metabench.views.drawing.reading import Tables

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference"


def write(folder):
    """Write every generated page into a folder, which then has no other."""
    pages = {
        "part-study-files.md": _included("config"),
        "part-results.md": _included("results"),
        "part-columns.md": _columns(),
        "hyperparameters.md": _hyperparameters(),
        "api.md": _api(),
        **_galleries(),
    }
    for path in folder.rglob("*.md"):
        if str(path.relative_to(folder)) not in pages:
            path.unlink()  # for instance of a study that is gone
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _included(folder):
    """Return a README of another folder without its title, its links as seen from here."""
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    return links.included(ROOT / folder, text.partition("\n")[2])


def _columns():
    """Return every table with its caption, and what its columns hold."""
    parts = []
    for table in tables.declared():
        parts += [f"## {table.name}", "", table.caption.strip().replace("``", "`"), ""]
        if table.columns:
            parts += _table(("column", "type", "meaning"), _described(table.columns))
    parts += ["## Columns of several tables", ""]
    parts += _table(("column", "type", "meaning"), _described(columns.SHARED))
    return "\n".join(parts) + "\n"


def _described(found):
    return [(f"`{name}`", column.type, column.meaning) for name, column in found.items()]


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    cells = [
        [str(field).replace("|", "\\|").replace("\n", " ") for field in line] for line in lines
    ]
    return [*(f"| {' | '.join(line)} |" for line in cells), ""]


def _hyperparameters():
    """Return the hyperparameters of each algorithm."""
    parts = ["# Hyperparameters", "", "What the file of each algorithm declares.", ""]
    for name in algorithms.NAMES:
        module = sys.modules[algorithms.load(name).cost.__module__]
        summary = inspect.getdoc(module).partition("\n")[0]
        parts += [f"## {name}", "", summary, ""]
        fields = algorithms.load(name).hyperparameters.model_fields
        rows = [
            (
                f"`{key}`",
                "required" if field.is_required() else f"`{field.default}`",
                field.description or "",
            )
            for key, field in fields.items()
        ]
        parts += _table(("key", "default", "meaning"), rows) if rows else ["It reads none.", ""]
    return "\n".join(parts) + "\n"


def _api():
    """Return the public names with their docstrings."""
    parts = [
        "# Public names",
        "",
        "All that the file of an algorithm or of a task family needs, and the only promise of "
        "stability:",
        "`from metabench import ...`.",
        "",
    ]
    for home, names in metabench._NAMES.items():
        parts += [f"## {home.rpartition('.')[2].replace('_', ' ').capitalize()}", ""]
        for name in names:
            value = getattr(metabench, name)
            if inspect.isclass(value):
                kind, options = "autoclass", ["   :members:", "   :exclude-members: model_config"]
            elif inspect.isfunction(value):
                kind, options = "autofunction", []
            else:
                kind, options = "autodata", ["   :no-value:"]
            # Sphinx finds the docstring of a value only in the module that assigns it.
            place = home if kind == "autodata" else "metabench"
            described = [f".. {kind}:: {place}.{name}", *options]
            parts += ["```{eval-rst}", *(_borrowed(name, value) or described), "```", ""]
    return "\n".join(parts) + "\n"


def _borrowed(name, value):
    """Return the entry of a function of another package, whose own pages describe it."""
    package = value.__module__.partition(".")[0] if inspect.isfunction(value) else "metabench"
    if package == "metabench":
        return []
    return [f".. py:function:: metabench.{name}(...)", "", f"   As in {package}."]


def signature(app, what, name, value, options, arguments, returns):
    """Return a signature with the names of functions that are defaults, not where they lie."""
    return arguments and re.sub(r"<function (\w+)>", r"\1", arguments), returns


def _galleries():
    """Return the gallery: a page of contents, and a page for each reference study."""
    studies = [
        study
        for study in sorted(path.parent.name for path in REFERENCE.glob("*/figures"))
        if (ROOT / "config" / f"{study}.yaml").is_file()
    ]
    contents = [
        "# Gallery",
        "",
        "Every figure of the reference studies, drawn from their tables. A picture "
        "leads to its study.",
        "",
        "````{container} thumbnails",
        *(line for study in studies for line in _thumbnail(study)),
        "````",
        "",
        "```{toctree}",
        ":hidden:",
        "",
        *(f"gallery/{study}" for study in studies),
        "```",
    ]
    pages = {f"gallery/{study}.md": _gallery(study) for study in studies}
    return {"gallery.md": "\n".join(contents) + "\n", **pages}


def _source(study):
    content = yaml.safe_load((ROOT / "config" / f"{study}.yaml").read_text(encoding="utf-8"))
    return f"{content['source']}."


def _thumbnail(study):
    """Return the first figure of a study, small, as a link to its page."""
    picture = _pictures(study)[0]
    return [
        f"```{{figure}} ../../results/reference/{study}/figures/{picture.stem}.png",
        f":alt: {_title(picture)}",
        f":target: gallery/{study}.html",
        "",
        f"[{study}](gallery/{study}.md): {_source(study)}",
        "```",
    ]


def _pictures(study):
    return figures.of_tables(Tables(REFERENCE / study / "tables"))


def _title(picture):
    """Return a heading that no other figure of the study has."""
    kind = picture.family.key.replace("_", " ").capitalize()
    return ": ".join([kind, *filter(None, [", ".join(picture.fields.values())])])


def _gallery(study):
    """Return every committed figure of a study under the headings of its report.

    Captions are the same in all studies, so the search would find them before any other page.
    """
    parts = ["---", "nosearch: true", "---", "", f"# {study}", "", _source(study), ""]
    found = defaultdict(list)
    for picture in _pictures(study):
        found[picture.family.category].append(picture)
    for category, pictures in found.items():
        parts += [f"## {category}", ""]
        for picture in pictures:
            path = f"../../../results/reference/{study}/figures/{picture.stem}.png"
            title = _title(picture)
            caption = picture.caption.strip().replace("``", "`")
            parts += [f"### {title}", "", f"![{title}]({path})", "", caption, ""]
    return "\n".join(parts) + "\n"
