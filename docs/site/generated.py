"""The pages that code writes: tables and their columns, algorithms, public names, the gallery."""

import inspect
import re
import sys
import typing
from collections import defaultdict
from pathlib import Path

import links
import yaml
from pydantic import TypeAdapter

import metabench
from metabench.analysis import columns, tables
from metabench.learning import algorithms
from metabench.views import figures
from metabench.views.drawing.reading import Tables

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference"

LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "greater than",
    "maximum": "at most",
    "enum": "one of",
}
"""What the limits of a JSON schema mean."""


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
            parts += ["```{eval-rst}", *_entry(home, name), "```", ""]
    return "\n".join(parts) + "\n"


def _entry(home, name):
    """Return the entry of a public name, in reStructuredText."""
    value = getattr(metabench, name)
    if typing.get_origin(value) is typing.Annotated:
        return _limited(name, value)
    if inspect.isclass(value):
        options = ["   :members:", "   :exclude-members: model_config"]
        return [f".. autoclass:: metabench.{name}", *options]
    if not inspect.isfunction(value):
        # Sphinx finds the docstring of a value only in the module that assigns it.
        return [f".. autodata:: {home}.{name}", "   :no-value:"]
    package = value.__module__.partition(".")[0]
    if package != "metabench":
        return [f".. py:function:: metabench.{name}(...)", "", f"   As in {package}."]
    return [f".. autofunction:: metabench.{name}"]


def _limited(name, value):
    """Return the entry of a type with limits: what it is for, and which values it takes."""
    schema = TypeAdapter(value).json_schema()
    part = schema.get("prefixItems", schema.get("anyOf", [schema]))[0]
    limits = [f"{words} {part[key]}" for key, words in LIMITS.items() if key in part]
    kind = "Each of two: " if "prefixItems" in schema else "None or " if "anyOf" in schema else ""
    text = f"{kind}{', '.join([part['type'], *limits])}."
    described = f"{schema.get('description', '')} {text[0].upper()}{text[1:]}".strip()
    return [f".. py:data:: metabench.{name}", "", f"   {described}"]


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
