"""Grids: a list in place of a single value gives each of its values, and lists their product.

{shots: [5, 10], noise: [0.0, 0.1]}   four points
{support: [[-5, 5], [0, 5]]}          two points: one value of `support` is a list already
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from math import prod
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel

from metabench.study.messages import Mistakes, check, shorten

Point = TypeVar("Point", bound=BaseModel)

NOTHING: Mapping[str, Any] = MappingProxyType({})


def has_point(name: str) -> bool:
    """Return whether a protocol's name is that of a point of a grid, as `near shots 5` does.

    The name of a group has no spaces.
    """
    return " " in name


def singles(names: Iterable[str]) -> list[str]:
    """Return the protocols that are a group by themselves, which have figures of their own.

    Example:
        >>> singles(["standard", "near shots 5"])
        ['standard']
    """
    return [name for name in names if not has_point(name)]


def checked(
    model: type[Point], content: Mapping[str, Any], place: str, known: Mapping[str, Any] = NOTHING
) -> list[Point]:
    """Return the points of a grid, checked.

    Args:
        model: Model of a point.
        content: Keys and values, or lists of values.
        place: Its place in a study file, for error messages.
        known: Further keys and values, the same for all points.

    Raises:
        ConfigError: A line for each mistake.
    """
    require_lists(model, content, place)
    mistakes, found = Mistakes(), []
    for point in points(model, content):
        with mistakes.collected():
            found.append(check(model, {**known, **point}, place=place))
    mistakes.report()
    return found


def points(model: type[BaseModel], content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the points of a grid: the content with each combination of the values of its lists.

    Args:
        model: Model of a point; its types say whether one value is a list.
        content: Keys and values, or lists of values.
    """
    choices = [values(model, key, value) for key, value in content.items()]
    for point in product(*choices):
        yield dict(zip(content, point, strict=True))


def require_lists(model: type[BaseModel], content: Mapping[str, Any], place: str) -> None:
    """Raise ConfigError if a list of values is empty or has a value twice."""
    mistakes = Mistakes()
    for key in varied(model, content):
        # Python takes 1 and 1.0 for one value, as a grid must.
        different = {repr(item) if isinstance(item, list | dict) else item for item in content[key]}
        if not content[key] or len(different) < len(content[key]):
            mistakes.add(
                f"a list of values must have one or more, each once; got "
                f"{shorten(content[key])} ({place}.{key})"
            )
    mistakes.report()


def varied(model: type[BaseModel], content: Mapping[str, Any]) -> list[str]:
    """Return the keys of a grid that have lists of values."""
    return [key for key, value in content.items() if _is_list_of_values(model, key, value)]


def values(model: type[BaseModel], key: str, value: Any) -> list[Any]:
    """Return the values that a key of a grid takes."""
    return list(value) if _is_list_of_values(model, key, value) else [value]


def size(model: type[BaseModel], content: Mapping[str, Any]) -> int:
    """Return the number of points of a grid."""
    return prod(len(values(model, key, value)) for key, value in content.items())


def of_any_length(model: type[BaseModel], key: str) -> bool:
    """Return whether a value of a key is a list of any length, unlike an interval."""
    field = model.model_fields.get(key)
    return field is not None and _has_any_length(field.annotation)


def _has_any_length(annotation: Any) -> bool:
    parts = get_args(annotation)
    return Ellipsis in parts or any(map(_has_any_length, parts))


def _is_list_of_values(model: type[BaseModel], key: str, value: Any) -> bool:
    if not isinstance(value, list):
        return False
    field = model.model_fields.get(key)
    if field is None or not _is_sequence(field.annotation):
        return True
    # One value is a list, so values are lists of lists, with None among them where that is one.
    return any(isinstance(item, list) for item in value) and all(
        item is None or isinstance(item, list) for item in value
    )


def _is_sequence(annotation: Any) -> bool:
    """Return whether a type is that of a list or tuple, or may be one."""
    if get_origin(annotation) in (list, tuple):
        return True
    return any(_is_sequence(part) for part in get_args(annotation) if part is not type(None))
