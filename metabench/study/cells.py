"""A cell: an algorithm with its hyperparameters, and its name.

Its name describes its content in words, so it stays the same when the grid grows:

    reptile inner 0.02, meta 0.1
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

from metabench.learning import algorithms
from metabench.learning.algorithm import Algorithm, Cost
from metabench.learning.hyperparameters import Hyperparameters, value_text
from metabench.learning.settings import NetworkSettings
from metabench.learning.tasks import AnyDistribution
from metabench.study.limits import NO_NAMES
from metabench.study.messages import ConfigError, shorten
from metabench.study.schema import USUAL_ITERATIONS, StudyConfig

ROLES = ("published", "grid", "equal-budget")
"""Roles of a cell: the original source's values, a point of the grid, or another's budget."""

SHOWN = 20
"""The most cells that a message lists."""

LONGEST_NAME = 300
"""The most characters of the name of a cell."""

LONGEST = 120
"""The most characters of a cell's name in a path; a longer one is cut and made unique."""


@dataclass(frozen=True)
class Cell:
    """An algorithm with its hyperparameters.

    Args:
        module: The algorithm, by its name in the registry or as a file.
        hyperparameters: Its hyperparameters.
        meta_iterations: Length of its training.
        role: One of `ROLES`.
        cost: Cost of one meta-iteration of one run.
        network: The network.
        tasks: The distribution of its training tasks.
        name: Its name in tables and figures, for instance `inner 0.02, meta 0.1`.
    """

    module: str
    hyperparameters: Hyperparameters
    meta_iterations: int
    role: str
    cost: Cost
    network: NetworkSettings
    tasks: AnyDistribution
    name: str

    @property
    def algorithm(self) -> str:
        """Name of the algorithm."""
        return algorithms.name(self.module)

    @property
    def title(self) -> str:
        """The cell in words: `reptile inner 0.02, meta 0.1`."""
        return f"{self.algorithm} {self.name}"

    @cached_property
    def path(self) -> str:
        """The cell as a part of a path: `reptile/inner-0.02_meta-0.1`."""
        return f"{self.algorithm}/{path_of(self.name)}"

    @property
    def value(self) -> Algorithm:
        """The algorithm itself."""
        return algorithms.load(self.module)


def path_of(name: str) -> str:
    """Return a name as a part of a path, without spaces or commas; different names stay different.

    Example:
        >>> path_of("inner 0.02, meta 0.1")
        'inner-0.02_meta-0.1'
    """
    plain = name.replace(", ", "_").replace(" ", "-")
    if re.fullmatch(r"[A-Za-z0-9.+_-]+", plain) and len(plain) <= LONGEST:
        return plain
    safe = re.sub(r"[^A-Za-z0-9.+_-]", "-", plain)
    return f"{safe[: LONGEST - 12]}-x{sha256(name.encode()).hexdigest()[:10]}"


def named(cell: Cell, config: StudyConfig, place: str) -> Cell:
    """Return a cell with its name.

    Raises:
        ConfigError: Text in a user's hyperparameters makes an unreadable name.
    """
    name = _name(config, cell)
    _require_readable(name, place)
    return replace(cell, name=name)


def _name(config: StudyConfig, cell: Cell) -> str:
    """Return the name of a cell: whatever differs from defaults, in words."""
    parts = list(cell.hyperparameters.name_parts())
    if cell.network.hidden != config.network.hidden:
        parts.append(f"hidden {value_text(cell.network.hidden)}")
    if cell.network.activation != config.network.activation:
        parts.append(cell.network.activation)
    if cell.network.initialization != config.network.initialization:
        parts.append(cell.network.initialization)
    if cell.tasks.training_tasks != config.tasks.training_tasks:
        parts.append(f"training tasks {cell.tasks.training_tasks or 'without end'}")
    if cell.meta_iterations == 0:
        parts.append("untrained")
    elif cell.meta_iterations != USUAL_ITERATIONS:
        parts.append(f"{cell.meta_iterations} iterations")
    return ", ".join(parts) or "as declared"


def _require_readable(name: str, place: str) -> None:
    """Raise ConfigError if text in a user's hyperparameters makes an unreadable name."""
    is_text = name[0].isalpha() and name.lower() not in (*NO_NAMES, "n/a")
    if not is_text or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ConfigError(
            f"the name of a cell must begin with a letter, be printable text of {LONGEST_NAME} "
            f"characters at most, and none of {', '.join(NO_NAMES)}; hyperparameters make it "
            f"{shorten(name)} ({place})"
        )


def find(found: list[Cell], wanted: str) -> Cell:
    """Return the cell that a user names.

    Args:
        found: The cells of a study.
        wanted: The cell in words, its path, or a role that only one cell of the algorithm has:
            `reptile inner 0.02, meta 0.1` (or with a slash after the algorithm),
            `reptile/inner-0.02_meta-0.1`, `reptile/published`.

    Raises:
        ConfigError: No cell, or more than one, has that name.
    """
    for cell in found:
        if wanted in (cell.title, f"{cell.algorithm}/{cell.name}", cell.path):
            return cell
    algorithm, _, role = wanted.partition("/")
    known = [cell for cell in found if cell.algorithm == algorithm]
    matches = [cell for cell in known if cell.role == role]
    if len(matches) == 1:
        return matches[0]
    names = [f"{cell.algorithm}/{cell.name}" for cell in matches or known or found]
    more = f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    count = f"{len(matches)} cells" if matches else "no cell"
    raise ConfigError(
        f"a cell is ALGORITHM/NAME, such as reptile/published; {shorten(wanted)} matches {count} "
        f"of this study; choose from {'; '.join(names[:SHOWN])}{more}"
    )
