"""The registry: a name for each algorithm file of this package, and the way to one that lies
elsewhere.

Each module follows `metabench.learning.algorithms.protocol.Algorithm`. Where an algorithm is named,
the path of a Python file that follows it will do: the file's name is then the algorithm's.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metabench.learning.algorithms.protocol import Algorithm

NAMES = (
    "anil",
    "cavia",
    "fomaml",
    "fomaml_tail",
    "joint",
    "maml",
    "maml_plus_plus",
    "meta_sgd",
    "neural_process",
    "random",
    "reptile",
    "ridge",
)

MEMBERS = (
    "HYPERPARAMETERS",
    "OPTIONS",
    "STEPS",
    "cost",
    "begin",
    "sample",
    "meta_gradient",
    "predictions",
)
"""What a module must have."""


def is_file(algorithm: str) -> bool:
    """Return whether an algorithm is spelled as a file of its own."""
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
def load(algorithm: str) -> Algorithm:
    """Import one algorithm, of this package or from a file.

    Raises:
        ValueError: No algorithm has this name, or the file is none.
    """
    if not is_file(algorithm) and algorithm not in NAMES:
        known = ", ".join(NAMES)
        raise ValueError(
            f"unknown algorithm {algorithm!r:.60}; choose from {known}, or name a file that ends in .py"
        )
    module = _from_file(algorithm) if is_file(algorithm) else import_module(module_name(algorithm))
    if missing := [member for member in MEMBERS if not hasattr(module, member)]:
        raise ValueError(
            f"an algorithm must have {', '.join(MEMBERS)}; {algorithm} has no {', '.join(missing)}"
        )
    return module  # type: ignore[return-value]


def _from_file(path: str) -> object:
    """Run a file as a module."""
    if name(path) in NAMES:
        raise ValueError(
            f"an algorithm of one's own needs a name of its own; {name(path)} is one of metabench's ({path})"
        )
    spec = spec_from_file_location(f"metabench_algorithm_{name(path)}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"cannot load {path}: {type(error).__name__}: {error}") from None
    return module
