"""`ConfigError`, and from a `ValidationError` to its message: a clear line for each mistake."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

MISTAKES = 10
"""Mistakes that are told in full; the rest is counted."""

SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 60


class ConfigError(ValueError):
    """A study file or settings that cannot be used; the message has one line for each mistake."""


def lines(model: type[BaseModel], errors: Sequence[Any], where: str) -> Iterator[str]:
    """Yield a line for each mistake, the first `MISTAKES` of them."""
    mistakes = [error for error in errors if not _follows(error, errors)]
    for error in mistakes[:MISTAKES]:
        place, section = _place(model, error["loc"])
        if error["type"].startswith("union_tag"):
            place = (*place, _word(error["ctx"]["discriminator"].strip("'")))
        key = _key(part for part in place if part != "[key]")
        yield f"{_what(section, place, error)} ({where}{', ' if key else ''}{key})"
    if len(mistakes) > MISTAKES:
        yield f"and {len(mistakes) - MISTAKES} more ({where})"


def _follows(error: Any, errors: Sequence[Any]) -> bool:
    """Return whether a list is only too short since each of its items has a mistake of its own."""
    place = error["loc"]
    return error["type"] == "too_short" and any(
        e["loc"][: len(place)] == place != e["loc"] for e in errors
    )


def _key(location: Iterator[str | int]) -> str:
    """Spell a place: cells[1].algorithm."""
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{_word(part)}" for part in location
    ).lstrip(".")


def _word(name: str) -> str:
    return cut(name if name.isprintable() else ascii(name))


def _what(section: _Section, place: Sequence[str | int], error: Any) -> str:
    """Say what must hold at a place, which lies in a section, and what came."""
    names = [part for part in place if isinstance(part, str)]
    name, value = _word(names[-1]) if names else "it", shorten(error["input"])
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key {shorten(names[-1])}; choose from {', '.join(sorted(section.model.model_fields))}"
        case "missing" if isinstance(place[-1], int):
            return f"{name} lacks an item"
        case "missing":
            return f"missing key {name!r}"
        case "union_tag_not_found":
            return f"missing key {name!r}; choose from {_quoted(section.members)}"
        case "union_tag_invalid":
            return f"unknown {name} {shorten(error['input'][name])}; choose from {_quoted(section.members)}"
        case "literal_error":
            return f"unknown {name} {value}; choose from {error['ctx']['expected'].replace(' or ', ', ')}"
        case "value_error":
            return str(error["ctx"]["error"])
        case "json_invalid":
            return f"it must be spelled in words and numbers: {error['ctx']['error']}"
        case "string_pattern_mismatch":
            name = "a name" if name == "[key]" else name
            return f"{name} must be lower-case letters, digits and hyphens, 40 at most, a letter first; got {value}"
    rule = error["msg"].partition(" should ")[2].replace(" after validation", "")
    rule = rule.replace("a valid array", "a list").replace(
        "an object", "a mapping of keys to values"
    )
    return f"{name} must {rule}, got {value}"


class _Section(NamedTuple):
    """Where a key stands: a model, and if the key before was a choice between models, those by
    their tags.
    """

    model: type[BaseModel]
    members: dict[str | int, type[BaseModel]]


def _place(
    model: type[BaseModel], location: Sequence[str | int]
) -> tuple[tuple[str | int, ...], _Section]:
    """Return a place as a file spells it, without the tags that pydantic puts into it, and the
    section there.
    """
    place, section = list[str | int](), _Section(model, {})
    for part in location:
        if part in section.members:
            section = _Section(section.members[part], {})
            continue
        place.append(part)
        field = section.model.model_fields.get(str(part))
        models = list(_models(field.annotation)) if field else []
        tag = field.discriminator if field else None
        members = {m.model_fields[tag].default: m for m in models} if isinstance(tag, str) else {}
        section = _Section(models[0] if models else section.model, members)
    return tuple(place), section


def _quoted(members: Iterable[str | int]) -> str:
    return ", ".join(repr(member) for member in members)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation names, ``dict[Name, Protocol] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def shorten(value: Any) -> str:
    """Spell a value in 80 characters at most."""
    return cut(SHORT.repr(value))


def cut(text: str) -> str:
    """Return a text, or its beginning and dots where it has more than 80 characters."""
    return text if len(text) <= 80 else f"{text[:77]}..."
