"""The pages that code writes: tables and their columns, algorithms, public names, the gallery."""

import inspect
import sys
from pathlib import Path

import links
import yaml

import metabench
from metabench.analysis import columns, tables
from metabench.learning import algorithms
from metabench.views import figures

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference"


def write(folder):
    """Write every generated page into a folder."""
    folder.mkdir(exist_ok=True)
    pages = {
        "part-study-files.md": _included("config"),
        "part-results.md": _included("results"),
        "part-columns.md": _columns(),
        "hyperparameters.md": _hyperparameters(),
        "api.md": _api(),
        "gallery.md": _gallery(),
    }
    for name, text in pages.items():
        path = folder / name
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
                kind, options = "autoclass", ["   :members:"]
            elif inspect.isfunction(value):
                kind, options = "autofunction", []
            else:
                kind, options = "autodata", ["   :no-value:"]
            # Sphinx finds the docstring of a value only in the module that assigns it.
            place = home if kind == "autodata" else "metabench"
            parts += ["```{eval-rst}", f".. {kind}:: {place}.{name}", *options, "```", ""]
    return "\n".join(parts) + "\n"


def _gallery():
    """Return every committed figure of the reference studies, with its caption."""
    parts = ["# Gallery", "", "Every figure of the reference studies, drawn from their tables.", ""]
    families = {family.key: family for family in figures.families()}
    for study in sorted(path.name for path in REFERENCE.iterdir() if (path / "figures").is_dir()):
        if not (ROOT / "config" / f"{study}.yaml").is_file():
            continue
        content = yaml.safe_load((ROOT / "config" / f"{study}.yaml").read_text(encoding="utf-8"))
        parts += [f"## {study}", "", f"{content['source']}.", ""]
        for path in sorted((REFERENCE / study / "figures").glob("*.png")):
            known = [family for family in families.values() if _matches(family, path.stem)]
            caption = known[0].caption.strip() if known else ""
            parts += [
                f"### {study}: {path.stem.replace('_', ' ')}",
                "",
                f"![{path.stem.replace('_', ' ')} of the study {study}]"
                f"(../../{path.relative_to(ROOT)})",
                "",
                caption.replace("``", "`"),
                "",
            ]
    return "\n".join(parts) + "\n"


def _matches(family, stem):
    return stem.startswith(family.name.partition("{")[0].rstrip("_"))
