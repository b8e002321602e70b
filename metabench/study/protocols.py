"""Expand the protocols of a study file: each entry is a group, the product of its lists.

A group without lists is one protocol of the same name. In a group with lists, each protocol is
named after the group and its values: `robustness shots 5, noise 0.1`. A group named after the one
key that it varies has names that mention it once: `shots 5`.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, NamedTuple

from metabench.learning.held_out import region_names, seen
from metabench.learning.hyperparameters import value_text
from metabench.learning.settings import Protocol, Showcase
from metabench.learning.tasks import FAMILIES, TaskDistribution
from metabench.study import grids
from metabench.study.limits import PROTOCOLS
from metabench.study.messages import ConfigError, Mistakes, check, shorten
from metabench.study.schema import StudyConfig, StudyProtocol

SHOWN = 10
"""The most protocols that a message lists."""

Groups = dict[str, dict[str, StudyProtocol]]
"""The protocols of each group by name."""

Regions = dict[str, tuple[str, ...]]
"""Names of the regions of the query grid by protocol, in the order of the records' axis."""

NO_CHANGES = {
    "domain": "is a key of the protocol itself",
    "noise": "is a key of the protocol itself",
    "training_tasks": "is about training alone",
}
"""Settings of tasks that a protocol's `tasks` does not have, and why."""


def groups(config: StudyConfig) -> Groups:
    """Return the protocols of a study, by group and name.

    Raises:
        ConfigError: A line for each mistake: a protocol has a missing or unknown key, or is
            invalid.
    """
    mistakes = Mistakes()
    wanted = []
    for name, content in config.protocols.items():
        with mistakes.collected():
            wanted.append(_group(config, name, content))
    mistakes.report()
    if (count := sum(group.size for group in wanted)) > PROTOCOLS:
        raise ConfigError(f"a study has {PROTOCOLS} protocols at most, got {count} (protocols)")

    found: Groups = {}
    for group in wanted:
        with mistakes.collected():
            found[group.name] = _expand(config, group)
    mistakes.report()
    names = [name for group in found.values() for name in group]
    if config.validation.protocol not in names:
        raise ConfigError(
            f"unknown protocol {shorten(config.validation.protocol)}; choose from "
            f"{_listed(names)} (validation.protocol)"
        )
    return found


def axes(group: Mapping[str, StudyProtocol]) -> dict[str, dict[str, Any]]:
    """Return what varies within a group: by key of protocols or tasks, the value of each protocol.

    Example:
        >>> near, far = {"support": [0, 5]}, {"support": [-5, 0]}
        >>> given = {"updates": 10, "gaussian_process_length_scale": 1.0}
        >>> found = {f"side {n}": StudyProtocol(shots=n, **side, **given)
        ...          for n, side in ((1, near), (2, far))}
        >>> axes(found)["shots"]
        {'side 1': 1, 'side 2': 2}
    """
    contents: dict[str, dict[str, Any]] = {}
    for name, protocol in group.items():
        content = protocol.model_dump(mode="json")
        changes = content.pop("tasks") or {}
        contents[name] = content | changes
    every = dict.fromkeys(key for content in contents.values() for key in content)
    found = {key: {name: content.get(key) for name, content in contents.items()} for key in every}
    return {
        key: values for key, values in found.items() if len(set(map(repr, values.values()))) > 1
    }


def regions(tasks: TaskDistribution, protocols: Mapping[str, Protocol]) -> Regions:
    """Return the names of each protocol's regions of the query grid, by protocol."""
    return {
        name: region_names(protocol.distribution(tasks), protocol)
        for name, protocol in protocols.items()
    }


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


class _Group(NamedTuple):
    """An entry of a study file: a grid of protocols, and one of changes to their tasks."""

    name: str
    own: dict[str, Any]
    """Keys of the protocol itself."""
    changes: dict[str, Any]
    """Settings of its tasks that differ from the study's."""
    family: type[TaskDistribution]
    """The model whose types say which changes are lists; families agree on shared keys."""

    @property
    def place(self) -> str:
        """Its place in the study file."""
        return f"protocols.{self.name}"

    @property
    def size(self) -> int:
        """Number of its protocols."""
        return grids.size(StudyProtocol, self.own) * grids.size(self.family, self.changes)

    @property
    def varied(self) -> list[str]:
        """The keys that have lists of values."""
        return [
            *grids.varied(StudyProtocol, self.own),
            *grids.varied(self.family, self.changes),
        ]

    def called(self, point: Mapping[str, Any]) -> str:
        """Return the name of a protocol, which mentions the key in its group's name only once."""
        values = [f"{key.replace('_', ' ')} {self._value(key, point)}" for key in self.varied]
        named = [] if self.varied == [self.name] else [self.name]
        return " ".join([*named, ", ".join(values)]).strip()

    def _value(self, key: str, point: Mapping[str, Any]) -> str:
        model = StudyProtocol if key in self.own else self.family
        return value_in_words(point[key], grids.of_any_length(model, key))


def _group(config: StudyConfig, name: str, content: dict[str, Any]) -> _Group:
    """Return the group that an entry describes; raise ConfigError if it is not a valid grid."""
    place = f"protocols.{name}"
    own = {key: value for key, value in content.items() if key != "tasks"}
    changes = content.get("tasks")
    if not isinstance(changes, dict | None):
        raise ConfigError(
            f"tasks must be a mapping of keys to values, got {shorten(changes)} ({place}.tasks)"
        )
    changes = changes or {}
    families = grids.values(TaskDistribution, "family", changes.get("family", config.tasks.family))
    family = FAMILIES.get(str(families[0]) if families else "", type(config.tasks))
    mistakes = Mistakes()
    for key in sorted(changes.keys() & NO_CHANGES):
        mistakes.add(f"{key} {NO_CHANGES[key]} ({place}.tasks.{key})")
    with mistakes.collected():
        grids.require_lists(StudyProtocol, own, place)
    with mistakes.collected():
        grids.require_lists(family, changes, f"{place}.tasks")
    mistakes.report()
    return _Group(name, own, changes, family)


def _expand(config: StudyConfig, group: _Group) -> dict[str, StudyProtocol]:
    """Return the protocols of a group by name."""
    mistakes = Mistakes()
    found: dict[str, StudyProtocol] = {}
    usual = {"curve": not group.varied}
    for own in grids.points(StudyProtocol, usual | group.own):
        for changes in grids.points(group.family, group.changes):
            point = own | changes
            name = group.called(point)
            with mistakes.collected():
                if name in found:
                    raise ConfigError(f"two protocols are called {name} ({group.place})")
                found[name] = _protocol(config, own, changes, group.place)
    mistakes.report()
    return found


def _protocol(
    config: StudyConfig, own: dict[str, Any], changes: dict[str, Any], place: str
) -> StudyProtocol:
    """Return one protocol; raise ConfigError if it is invalid."""
    if not changes:
        protocol = check(StudyProtocol, own, place=place)
    else:
        tasks = _changed(config.tasks, changes, f"{place}.tasks")
        contents = tasks.model_dump(mode="json", include=set(changes))
        protocol = check(StudyProtocol, {**own, "tasks": contents}, place=place)
        if tasks.features != config.tasks.features:
            raise ConfigError(
                f"tasks of the family {tasks.family} have {tasks.features} inputs, and the "
                f"networks of this study {config.tasks.features} ({place}.tasks.family)"
            )
    _require_support(protocol.distribution(config.tasks), protocol, place)
    return protocol


def _changed(tasks: TaskDistribution, changes: dict[str, Any], place: str) -> TaskDistribution:
    """Return a distribution with some settings changed; a new family keeps the shared settings."""
    name = changes.get("family", tasks.family)
    if not isinstance(name, str) or name not in FAMILIES:
        known = ", ".join(map(repr, FAMILIES))
        raise ConfigError(f"unknown family {shorten(name)}; choose from {known} ({place}.family)")
    family = FAMILIES[name]
    shared = type(tasks) if isinstance(tasks, family) else TaskDistribution
    kept = tasks.model_dump(mode="json", include=set(shared.model_fields))
    return check(family, {**kept, **changes}, place=place)


def value_in_words(value: Any, several: bool = False) -> str:
    """Format a value for a protocol's name.

    Args:
        value: The value.
        several: Whether numbers in a list are separate values and not the ends of an interval.

    Example:
        >>> value_in_words([0.0, 5.0]), value_in_words([7, 8, 9], several=True)
        ('0 to 5', '7 and 8 and 9')
    """
    if value is None:
        return "default"
    if not isinstance(value, list):
        return value_text(value)
    is_interval = not several and all(isinstance(item, int | float) for item in value)
    return (" to " if is_interval else " and ").join(value_in_words(item) for item in value)


def _require_support(tasks: TaskDistribution, protocol: Protocol, place: str) -> None:
    """Raise ConfigError if support points may lie outside the domain, or span no grid point."""
    if protocol.placement == "even" and tasks.features > 1:
        raise ConfigError(
            f"placement even is for tasks with one input; those of the family {tasks.family} have "
            f"{tasks.features} ({place}.placement)"
        )
    (low, high), (first, last) = tasks.domain, protocol.support
    if first < low or last > high:
        raise ConfigError(
            f"support must lie inside the domain [{low:g}, {high:g}], got [{first:g}, {last:g}] "
            f"({place}.support)"
        )
    if not (protocol.queries or seen(tasks.grid, protocol).any()):
        raise ConfigError(
            f"support must hold a point of the grid outside of its gap, got [{first:g}, {last:g}] "
            f"({place}.support)"
        )


def require_showcase(tasks: TaskDistribution, parameters: Showcase) -> None:
    """Raise ConfigError if a family has no task with such parameters."""
    every = signature(tasks.one).parameters
    needed = {name for name, parameter in every.items() if parameter.default is parameter.empty}
    if not needed <= parameters.keys() <= every.keys():
        known = ", ".join(name if name in needed else f"{name} (or not)" for name in every)
        raise ConfigError(
            f"showcase of family {tasks.family} takes {known}; got {shorten(list(parameters))} "
            f"(showcase)"
        )
    try:
        tasks.one(**parameters)
    except ValueError as error:
        raise ConfigError(f"{error} (showcase)") from error
