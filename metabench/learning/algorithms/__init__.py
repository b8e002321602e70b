"""The registry: the algorithm files of this package, and the way to a file that lies elsewhere.

Each file holds a value, `ALGORITHM`. Where an algorithm is named, the path of a Python file with
such a value will do; the file's name is then the algorithm's.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metabench.learning.algorithm import Algorithm

NAMES = (
    "anil",
    "cavia",
    "fomaml",
    "fomaml_tail",
    "joint",
    "maml",
    "maml_plus_plus",
    "meta_curvature",
    "meta_sgd",
    "neural_process",
    "random",
    "reptile",
    "ridge",
)


def is_file(algorithm: str) -> bool:
    """Return whether an algorithm is given as a file."""
    return algorithm.endswith(".py")


def name(algorithm: str) -> str:
    """Return what an algorithm is called in tables and paths.

    Example:
        >>> name("reptile"), name("mine/nudge.py")
        ('reptile', 'nudge')
    """
    return Path(algorithm).stem if is_file(algorithm) else algorithm


def module_name(algorithm: str) -> str:
    """Return the full name of an algorithm's module, or its file."""
    return algorithm if is_file(algorithm) else f"{__name__}.{algorithm}"


@cache
def module(algorithm: str) -> ModuleType:
    """Import the module of an algorithm, of this package or from a file.

    Raises:
        ValueError: No algorithm has this name, or the file cannot be loaded.
    """
    if is_file(algorithm):
        return _from_file(algorithm)
    if algorithm in NAMES:
        return import_module(module_name(algorithm))
    known = ", ".join(NAMES)
    raise ValueError(
        f"unknown algorithm {algorithm!r:.60}; choose from {known}, or name a file that ends in .py"
    )


def load(algorithm: str) -> Algorithm:
    """Import one algorithm, of this package or from a file.

    Raises:
        ValueError: No algorithm has this name, or the file does not hold one.
    """
    from metabench.learning.algorithm import Algorithm

    found = getattr(module(algorithm), "ALGORITHM", None)
    if not isinstance(found, Algorithm):
        raise ValueError(
            f"{algorithm} must hold ALGORITHM = Algorithm(...), got {type(found).__name__}"
        )
    return found


def source_digest(algorithm: str) -> str | None:
    """Return the digest of a file that is an algorithm; None for one of this package.

    Raises:
        ValueError: The file cannot be read.
    """
    if not is_file(algorithm):
        return None
    try:
        return sha256(Path(algorithm).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise ValueError(f"cannot read {algorithm}: {error.strerror}") from None


def _from_file(path: str) -> ModuleType:
    """Run a file as a module. What it prints goes to the error stream: the output may be data."""
    if name(path) in NAMES:
        raise ValueError(
            f"an algorithm in a file needs a name of its own; {name(path)} is one of metabench's "
            f"({path})"
        )
    spec = spec_from_file_location(f"metabench_algorithm_{name(path)}", path)
    assert spec is not None and spec.loader is not None
    found = sys.modules[spec.name] = module_from_spec(spec)
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(found)
    except Exception as error:
        raise ValueError(f"cannot load {path}: {type(error).__name__}: {error}") from None
    return found
