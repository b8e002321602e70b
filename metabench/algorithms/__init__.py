"""The registry: a name for each algorithm file of this package.

Each module follows `metabench.algorithms.protocol.Algorithm`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metabench.algorithms.protocol import Algorithm

NAMES = ("fomaml", "joint", "random", "reptile")


def module_name(name: str) -> str:
    """Return the full name of an algorithm's module."""
    return f"{__name__}.{name}"


def load(name: str) -> Algorithm:
    """Import one algorithm.

    Raises:
        ValueError: No algorithm has this name.
    """
    if name not in NAMES:
        raise ValueError(f"unknown algorithm {name!r}; choose from {', '.join(NAMES)}")
    return import_module(module_name(name))
