"""`ConfigError`, and from a `ValidationError` to its message: a clear line for each mistake."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

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
        key = _key(part for part in error["loc"] if part != "[key]")
        yield f"{_what(model, error)} ({where}{', ' if key else ''}{key})"
    if len(mistakes) > MISTAKES:
        yield f"and {len(mistakes) - MISTAKES} more ({where})"


def _follows(error: Any, errors: Sequence[Any]) -> bool:
    """Return whether a list is only too short since each of its items has a mistake of its own."""
    place = error["loc"]
    return error["type"] == "too_short" and any(e["loc"][: len(place)] == place != e["loc"] for e in errors)


def _key(location: Iterator[str | int]) -> str:
    """Spell a place: cells[1].algorithm."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_word(part)}" for part in location).lstrip(".")


def _word(name: str) -> str:
    return cut(name if name.isprintable() else ascii(name))


def _what(model: type[BaseModel], error: Any) -> str:
    names = [part for part in error["loc"] if isinstance(part, str)]
    name, value = _word(names[-1]) if names else "it", shorten(error["input"])
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key {shorten(names[-1])}; choose from {', '.join(_fields(model, error['loc'][:-1]))}"
        case "missing":
            return f"missing key {name!r}"
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
    rule = rule.replace("a valid array", "a list").replace("an object", "a mapping of keys to values")
    return f"{name} must {rule}, got {value}"


def _fields(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the keys allowed at a place of a model."""
    for part in location:
        if part in model.model_fields:
            model = next(_models(model.model_fields[str(part)].annotation), model)
    return sorted(model.model_fields)


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
