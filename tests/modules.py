"""The modules of the package: which folder may import which, and the table of modules.

python tests/modules.py writes the table in ARCHITECTURE.md from imports and docstrings
"""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from marked import renewed

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "metabench"
PAGE = ROOT / "ARCHITECTURE.md"

FOLDERS = ("learning", "study", "records", "analysis", "views", "workflow")
"""The import law: a module imports from its own folder and from those to the left of it."""


def files() -> list[Path]:
    """Return every file of the package, from the ground up: folder by folder, then the rest."""
    return sorted(PACKAGE.rglob("*.py"), key=lambda path: (rank(folder(path)), path))


def folder(path: Path) -> str:
    """Return the folder that a file belongs to, or "" for the files beside the folders."""
    first, *_ = path.relative_to(PACKAGE).parts
    return first if first in FOLDERS else ""


def rank(name: str) -> int:
    """Return the place of a folder in the import law; the files beside the folders come last."""
    return FOLDERS.index(name) if name in FOLDERS else len(FOLDERS)


@cache
def tree(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every name that a file imports anywhere, with its line: `metabench.learning.tasks`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{path}:{node.lineno}: code digests do not see relative imports"
            )
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def own(path: Path) -> Iterator[tuple[Path, int]]:
    """Yield the files of the package that a file imports, with the line."""
    for name, line in imports(path):
        if name.split(".")[0] == "metabench" and (found := _file(name.split(".")[1:])):
            yield found, line


def _file(parts: list[str]) -> Path | None:
    """Return the module that a dotted name stands for, or the module that defines the name."""
    for count in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:count])
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
    return None


def module_name(path: Path) -> str:
    """Return the module of a file: the file itself or its sub-folder; "" for an `__init__`."""
    parts = path.relative_to(PACKAGE).parts
    inside = parts[1] if parts[0] in FOLDERS else parts[0]
    return "" if inside in ("__init__.py", "__main__.py") else inside.removesuffix(".py")


def modules(name: str) -> list[str]:
    """Return the modules of a folder, each after those that it imports; a cycle is an error."""
    needs: dict[str, set[str]] = {}
    for path in files():
        if folder(path) == name and module_name(path):
            others = {module_name(other) for other, _ in own(path) if folder(other) == name}
            needs.setdefault(module_name(path), set()).update(others - {module_name(path), ""})
    ordered = {inside: sorted(needs[inside]) for inside in sorted(needs)}
    return list(TopologicalSorter(ordered).static_order())


def first_sentence(name: str, inside: str) -> str:
    """Return the first sentence of a module's docstring."""
    path = PACKAGE / name / inside
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = " ".join((ast.get_docstring(tree(file)) or "").split("\n\n")[0].split())
    return text.rstrip(".")


def table() -> str:
    """Return the table of modules in Markdown."""
    lines = ["| folder | module | contents |", "| --- | --- | --- |"]
    for name in (*FOLDERS, ""):
        title = f"**{name}**" if name else "top level"
        for inside in modules(name):
            lines.append(f"| {title} | `{inside}` | {first_sentence(name, inside)} |")
            title = ""
    return "\n".join(lines)


def page() -> str:
    """Return ARCHITECTURE.md with the current table."""
    return renewed(PAGE.read_text(encoding="utf-8"), "modules", table())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
