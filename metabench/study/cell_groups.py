"""Expand the groups of a study file into cells: each group is the product of its lists."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from itertools import product
from math import ceil
from typing import Any, NamedTuple

from metabench.learning import algorithms
from metabench.learning.algorithm import Algorithm, Cost
from metabench.learning.hyperparameters import Hyperparameters, OuterLoop
from metabench.learning.settings import META_ITERATIONS, NetworkSettings
from metabench.learning.tasks import AnyDistribution
from metabench.study import grids
from metabench.study.cells import Cell, named
from metabench.study.limits import JOBS
from metabench.study.messages import ConfigError, Mistakes, closest, shorten, unknown_key, word
from metabench.study.schema import CellGroup, Length, StudyConfig, TrainingTasks


class _Group(NamedTuple):
    """A group of a study file, its algorithm, and its place in the file."""

    given: CellGroup
    algorithm: Algorithm
    place: str

    @property
    def size(self) -> int:
        """Number of its cells."""
        return min(self.points, self.given.trials or self.points)

    @property
    def points(self) -> int:
        """Number of cells of its product."""
        return (
            grids.size(NetworkSettings, self.given.network)
            * grids.size(TrainingTasks, self.given.tasks)
            * grids.size(self.algorithm.hyperparameters, self.given.hyperparameters)
            * grids.size(Length, self.given.length)
        )


def cells(config: StudyConfig) -> list[Cell]:
    """Return the cells of a study in the order of its file, those with equal budgets last.

    Raises:
        ConfigError: A line for each mistake: a group has a missing, unknown or invalid
            hyperparameter, or two cells are the same.
    """
    groups = _groups(config)
    mistakes = Mistakes()
    found: list[Cell] = []
    for group in groups:
        if group.given.equal_budget is None:
            with mistakes.collected():
                found += _expand(config, group)
    mistakes.report()
    for group in groups:
        if group.given.equal_budget is not None:
            with mistakes.collected():
                reference = _published(found, group.given.equal_budget, group.place)
                found += _expand(config, group, reference)
    mistakes.report()
    _require_distinct(found)
    return found


def _groups(config: StudyConfig) -> list[_Group]:
    """Return the groups of a study; raise ConfigError if they make more jobs than allowed."""
    mistakes = Mistakes()
    groups: list[_Group] = []
    files: dict[str, str] = {}
    for n, given in enumerate(config.cells):
        if not isinstance(given, CellGroup):
            continue
        place = f"cells[{n}]"
        with mistakes.collected():
            groups.append(_Group(given, _load(given.algorithm, place), place))
            _require_one_file(files, given.algorithm, place)
    mistakes.report()
    if not groups:
        raise ConfigError(
            "a study needs a group of cells beside predictions; algorithm: random, "
            "meta_iterations: 0 trains in no time (cells)"
        )
    for group in groups:
        if group.points > JOBS:
            mistakes.add(
                f"the lists of a group make at most {JOBS} cells, from which trials draws; got "
                f"{group.points} ({group.place})"
            )
    mistakes.report()
    jobs = sum(group.size for group in groups) * ceil(config.seeds / config.seed_block)
    if jobs > JOBS:
        raise ConfigError(
            f"cells, seeds and seed_block make {jobs} training jobs; "
            f"a study may have at most {JOBS} (cells)"
        )
    return groups


def predict_variances(config: StudyConfig) -> bool:
    """Return whether distributions of labels are judged: they have noise, and cells predict it."""
    groups = (entry for entry in config.cells if isinstance(entry, CellGroup))
    return config.tasks.noise > 0 and any(
        algorithms.load(group.algorithm).adaptation.distribution for group in groups
    )


def _load(given: str, place: str) -> Algorithm:
    """Return an algorithm; raise ConfigError if a study cannot use it."""
    try:
        algorithm = algorithms.load(given)
    except ValueError as error:
        raise ConfigError(f"{error} ({place}.algorithm)") from None
    model: Any = algorithm.hyperparameters  # in a user's file it may be anything
    if not (isinstance(model, type) and issubclass(model, Hyperparameters)):
        raise ConfigError(
            f"hyperparameters of {given} must be a subclass of metabench.Hyperparameters, got "
            f"{shorten(model)} ({place}.algorithm)"
        )
    if taken := sorted(model.model_fields.keys() & CellGroup.model_fields):
        raise ConfigError(
            f"a hyperparameter needs a unique name; {', '.join(taken)} of {given} is a key of "
            f"every group of cells ({place}.algorithm)"
        )
    return algorithm


def _require_one_file(files: dict[str, str], given: str, place: str) -> None:
    """Raise ConfigError if two algorithm files would have the same name in tables."""
    other = files.setdefault(algorithms.name(given), given)
    if other != given:
        raise ConfigError(
            f"algorithms are distinguished by the names of their files, and {other} and {given} "
            f"have the same ({place}.algorithm)"
        )


def _require_distinct(found: list[Cell]) -> None:
    """Raise ConfigError if a cell appears twice, or two cells would share a name or a path."""
    titles = Counter(cell.title for cell in found)
    paths = Counter(cell.path for cell in found)
    for names in (titles, paths):
        if repeated := [name for name, count in names.items() if count > 1]:
            raise ConfigError(
                f"each cell must appear once and have a unique name; {len(repeated)} do not, "
                f"the first is {shorten(repeated[0])}: groups must not share a combination, and "
                f"hyperparameters of an algorithm file must differ in their names (cells)"
            )


def _expand(config: StudyConfig, group: _Group, reference: Cell | None = None) -> list[Cell]:
    """Return the cells of one group; `reference` is the cell whose point-gradients they spend."""
    given, place = group.given, group.place
    known = config.network.model_dump(mode="json")
    mistakes = Mistakes()
    with mistakes.collected():
        networks = grids.checked(NetworkSettings, given.network, f"{place}.network", known)
    with mistakes.collected():
        changes = grids.checked(TrainingTasks, given.tasks, f"{place}.tasks")
    with mistakes.collected():
        hyperparameters = _hyperparameters(group)
    with mistakes.collected():
        lengths = grids.checked(Length, given.length, place)
    mistakes.report()

    role = "grid" if reference is None else "equal-budget"
    found = []
    for network, change, length, h in product(networks, changes, lengths, hyperparameters):
        tasks = config.tasks.model_copy(update=change.model_dump(exclude_unset=True))
        iterations = length.meta_iterations
        with mistakes.collected():
            cost = _cost(group, h, tasks)
            if reference is not None:
                budget = reference.meta_iterations * reference.cost.point_gradients
                iterations = _affordable_iterations(budget, cost, f"{place}.equal_budget")
            elif given.budget is not None:
                iterations = _affordable_iterations(given.budget, cost, f"{place}.budget")
            _require_outer_loop(given.algorithm, h, iterations, place)
            cell = Cell(given.algorithm, h, iterations, role, cost, network, tasks, name="")
            found.append(named(cell, config, place))
    mistakes.report()
    if given.trials is not None:
        found = _drawn(found, given.trials)
    return found if given.published is None else _mark(found, given.published, group)


def _drawn(found: list[Cell], trials: int) -> list[Cell]:
    """Draw some cells pseudo-randomly: those whose content has the smallest digests.

    The length of training does not affect the draw.
    """

    def digest(cell: Cell) -> str:
        content = {"algorithm": cell.algorithm, **_content(cell), "meta_iterations": None}
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    kept = sorted(found, key=digest)[:trials]
    return [cell for cell in found if cell in kept]


def _hyperparameters(group: _Group) -> list[Hyperparameters]:
    """Return the hyperparameters of each point of a group's grid."""
    model, given = group.algorithm.hyperparameters, group.given.hyperparameters
    fields = [*model.model_fields, *CellGroup.model_fields]
    choices = (
        f"the hyperparameters of {algorithms.name(group.given.algorithm)}: "
        f"{_listed(model.model_fields)}; or from the keys of every group: "
        f"{_listed(CellGroup.model_fields)}"
    )
    known = {key: value for key, value in given.items() if key in model.model_fields}
    mistakes = Mistakes()
    for key in sorted(given.keys() - known.keys()):
        mistakes.add(f"{unknown_key(key, fields, choices)} ({group.place}.{word(key)})")
        # A misspelt key is checked as the one it may mean, which is then not missing.
        if (near := closest(key, fields)) in model.model_fields:
            known.setdefault(near, given[key])
    with mistakes.collected(), _naming(group, "validation of hyperparameters"):
        found = grids.checked(model, known, group.place)
    mistakes.report()
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _cost(group: _Group, h: Hyperparameters, tasks: AnyDistribution) -> Cost:
    """Return the cost of a meta-iteration."""
    with _naming(group, "cost"):
        cost = group.algorithm.cost(h, tasks)
    if not isinstance(cost, Cost):
        raise ConfigError(
            f"cost of {group.given.algorithm} must return a Cost, got {shorten(cost)} "
            f"({group.place}.algorithm)"
        )
    return cost


@contextmanager
def _naming(group: _Group, what: str) -> Iterator[None]:
    """Add the algorithm's name to errors from its own code, which may be a user's file."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{error} ({group.place})") from None
    except Exception as error:
        raise ConfigError(
            f"{what} of {group.given.algorithm} fails: {type(error).__name__}: {error} "
            f"({group.place}.algorithm)"
        ) from None


def _require_outer_loop(algorithm: str, h: Hyperparameters, iterations: int, place: str) -> None:
    """Raise ConfigError if a cell is to train with an algorithm that cannot train."""
    if iterations and not isinstance(h, OuterLoop):
        raise ConfigError(
            f"{algorithms.name(algorithm)} does not train, since its hyperparameters are not a "
            f"subclass of OuterLoop; give meta_iterations: 0 ({place}.meta_iterations)"
        )


def _affordable_iterations(budget: int, cost: Cost, place: str) -> int:
    """Return how many meta-iterations spend a number of point-gradients."""
    if not cost.point_gradients:
        raise ConfigError(f"an algorithm that spends nothing has no budget ({place})")
    iterations = budget // cost.point_gradients
    if not 1 <= iterations <= META_ITERATIONS:
        raise ConfigError(
            f"a cell has 1 to {META_ITERATIONS} meta-iterations, its budget is {iterations} "
            f"({place})"
        )
    return iterations


def _mark(found: list[Cell], published: dict[str, Any], group: _Group) -> list[Cell]:
    """Give the cell with the original source's values the role `published`."""
    place = f"{group.place}.published"
    known = [*group.algorithm.hyperparameters.model_fields, "meta_iterations", "network", "tasks"]
    mistakes = Mistakes()
    for key in sorted(published.keys() - known):
        mistakes.add(f"{unknown_key(key, known, _listed(known))} ({place}.{word(key)})")
    mistakes.report()
    marked = []
    for cell in found:
        is_the_one = _contains(_content(cell), published)
        marked.append(replace(cell, role="published") if is_the_one else cell)
    if (count := sum(cell.role == "published" for cell in marked)) != 1:
        raise ConfigError(
            f"published must name exactly one cell of the grid, but {count} have "
            f"{shorten(published)} ({place})"
        )
    return marked


def _content(cell: Cell) -> dict[str, Any]:
    """Return a cell as a study file describes it."""
    return {
        **cell.hyperparameters.model_dump(mode="json"),
        "meta_iterations": cell.meta_iterations,
        "network": cell.network.model_dump(mode="json"),
        "tasks": {"training_tasks": cell.tasks.training_tasks},
    }


def _contains(content: Any, wanted: Any) -> bool:
    """Return whether a content has the wanted values; a mapping may leave keys out."""
    if isinstance(content, dict) and isinstance(wanted, dict):
        return all(key in content and _contains(content[key], wanted[key]) for key in wanted)
    return bool(content == wanted)


def _published(found: list[Cell], module: str, place: str) -> Cell:
    for cell in found:
        if cell.module == module and cell.role == "published":
            return cell
    raise ConfigError(
        f"equal_budget needs a published cell of {module}, and there is none ({place}.equal_budget)"
    )
