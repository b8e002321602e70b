"""The registry: the algorithms of this package, and the loader of algorithms in other files.

Each algorithm is one file with a value `ALGORITHM`. Wherever a name of an algorithm is accepted, so
is the path of a Python file with such a value. The file's name is then the algorithm's name.
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
    "alpaca",
    "anil",
    "cavia",
    "conditional_neural_process",
    "deep_kernel",
    "dr_maml",
    "fomaml",
    "fomaml_tail",
    "imaml",
    "in_context_transformer",
    "joint",
    "lstm",
    "maml",
    "maml_plus_plus",
    "meta_curvature",
    "meta_sgd",
    "mmaml",
    "neural_process",
    "random",
    "reptile",
    "ridge",
    "t_net",
    "transformer_neural_process",
)


def is_file(algorithm: str) -> bool:
    """Return whether an algorithm is given as the path of a file."""
    return algorithm.endswith(".py")


def name(algorithm: str) -> str:
    """Return the name of an algorithm in tables and paths.

    Example:
        >>> name("reptile"), name("mine/nudge.py")
        ('reptile', 'nudge')
    """
    return Path(algorithm).stem if is_file(algorithm) else algorithm


def module_name(algorithm: str) -> str:
    """Return the full name of an algorithm's module, or the path of its file."""
    return algorithm if is_file(algorithm) else f"{__name__}.{algorithm}"


@cache
def module(algorithm: str) -> ModuleType:
    """Import the module of an algorithm, from this package or from a file.

    Raises:
        ValueError: No algorithm has this name, or the file cannot be loaded.
    """
    if is_file(algorithm):
        return _from_file(algorithm)
    if algorithm in NAMES:
        return import_module(module_name(algorithm))
    known = ", ".join(NAMES)
    raise ValueError(
        f"unknown algorithm {algorithm!r:.60}; choose from {known}, or give the path of a .py file"
    )


def load(algorithm: str) -> Algorithm:
    """Import an algorithm, from this package or from a file.

    Raises:
        ValueError: No algorithm has this name, or the file does not define one.
    """
    from metabench.learning.algorithm import Algorithm

    value = getattr(module(algorithm), "ALGORITHM", None)
    if not isinstance(value, Algorithm):
        raise ValueError(
            f"{algorithm} must define ALGORITHM = Algorithm(...), got {type(value).__name__}"
        )
    return value


def source_digest(algorithm: str) -> str | None:
    """Return the digest of an algorithm's file, or None for an algorithm of this package.

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
    """Run a file as a module. Its output goes to stderr, since stdout may be a command's data."""
    if name(path) in NAMES:
        raise ValueError(
            f"the file of an algorithm needs a different name: {name(path)} is an algorithm of "
            f"metabench ({path})"
        )
    spec = spec_from_file_location(f"metabench_algorithm_{name(path)}", path)
    assert spec is not None and spec.loader is not None
    # Dataclasses look their module up in sys.modules while it is executed.
    loaded = sys.modules[spec.name] = module_from_spec(spec)
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(loaded)
    except Exception as error:
        raise ValueError(f"cannot load {path}: {type(error).__name__}: {error}") from None
    return loaded
