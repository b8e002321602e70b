"""Check that the command, the Snakefile and the package belong to the same checkout.

An environment contains absolute paths to its own folder. After `cp -r` the copy's commands would
run the code of the original and report success.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the running package."""

ANEW = "create the environment of this folder with `make setup`"


def stray_command(script: Path, folder: Path) -> str | None:
    """Return why a command must not run here, None if it may.

    Args:
        script: The called file, `sys.argv[0]`.
        folder: The folder in which it was called.
    """
    home = script.resolve().parent.parent
    if (home / "pyvenv.cfg").is_file() and home != Path(sys.prefix).resolve():
        return f"{script} was copied or moved here and would run the code in {PACKAGE}; {ANEW}"
    return _other_package(folder, PACKAGE)


def stray_snakefile(folder: Path) -> str | None:
    """Return why the Snakefile of a folder must not start jobs, None if it may.

    Snakemake puts the folder of the Snakefile first on Python's import path. Jobs are commands
    without that path: they import the installed package.
    """
    installed = _installed_without(folder)
    if installed is None or installed == PACKAGE:
        return _other_package(folder, PACKAGE)
    return (
        f"the Snakefile uses the code in {PACKAGE}, "
        f"but its jobs use the code in {installed}; {ANEW}"
    )


def _other_package(folder: Path, package: Path) -> str | None:
    """Return an error if a folder has its own package that is not the running one."""
    own = (folder / "metabench").resolve()
    if own == package or not (own / "__init__.py").is_file():
        return None
    return f"the code in {package} would run instead of that in {own}; {ANEW}"


def _installed_without(folder: Path) -> Path | None:
    """Return the package that Python would import if a folder were not searched."""
    searched = [path for path in sys.path if Path(path).resolve() != folder.resolve()]
    for finder in sys.meta_path:
        path = searched if finder is PathFinder else None
        spec = finder.find_spec("metabench", path)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).resolve().parent
    return None
