"""`ConfigError`, and how a `ValidationError` becomes its message: one clear line per mistake."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from types import UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

MISTAKES = 10
"""The most mistakes that a message lists in full; the rest are counted."""

CLOSE = 0.75
"""The least similarity of a key to one that it may mean (`difflib.get_close_matches`)."""

SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 60

PLAIN = {
    " after validation": "",
    "a valid array": "a list",
    "a valid boolean": "true or false",
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a valid string": "text",
    "an object": "a mapping of keys to values",
}
"""Pydantic's words, and the words for a reader of YAML."""


class ConfigError(ValueError):
    """A study file or settings that cannot be used.

    Args:
        mistakes: A line for each. The message lists the first `MISTAKES` and counts the rest.
    """

    def __init__(self, *mistakes: str) -> None:
        # What a user's own file raised may have several lines.
        self.mistakes = tuple(" ".join(mistake.splitlines()) for mistake in mistakes)
        lines = list(self.mistakes[:MISTAKES])
        if more := len(self.mistakes) - len(lines):
            lines.append(f"and {more} more mistakes")
        super().__init__("\n".join(lines))


class Mistakes:
    """Collects the mistakes of several checks, so that the user sees all of them at once."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}  # a dictionary keeps their order, and each once

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Collect the mistakes of a check that raises ConfigError."""
        try:
            yield
        except ConfigError as error:
            self._found.update(dict.fromkeys(error.mistakes))

    def add(self, mistake: str) -> None:
        """Add the line of one mistake."""
        self._found[mistake] = None

    def report(self) -> None:
        """Raise ConfigError if there are any."""
        if self._found:
            raise ConfigError(*self._found)


Checked = TypeVar("Checked", bound=BaseModel)


def check(model: type[Checked], content: Any, where: str = "", place: str = "") -> Checked:
    """Check keys and values against a model, strictly: text is not accepted as a number.

    Args:
        model: What they must match.
        content: Keys and values.
        where: The file that they come from, for error messages.
        place: Their place in it, for instance `cells[1]`.

    Raises:
        ConfigError: A line for each mistake: what must hold, what was found, where, what is
            allowed.
    """
    try:
        return model.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(*_lines(model, error.errors(), where, place)) from None
    except (TypeError, ValueError, RecursionError) as error:
        source = ", ".join(filter(None, (where, place)))
        raise ConfigError(f"it must consist of text and numbers: {error} ({source})") from None


def _lines(model: type[BaseModel], errors: Sequence[Any], where: str, place: str) -> Iterator[str]:
    """Yield a line for each mistake."""
    meant = {_meant(model, error) for error in errors if error["type"] == "extra_forbidden"}
    for error in errors:
        if _follows(error, errors) or (error["type"] == "missing" and error["loc"] in meant):
            continue
        location, section = _place(model, error["loc"])
        if error["type"].startswith("union_tag"):
            location = (*location, word(error["ctx"]["discriminator"].strip("'")))
        key = _key(part for part in location if part != "[key]")
        source = ", ".join(filter(None, (where, f"{place}.{key}".strip("."))))
        yield f"{_description(section, location, error)} ({source})"


def _follows(error: Any, errors: Sequence[Any]) -> bool:
    """Return whether a list is too short only because each of its items has its own mistake."""
    place = error["loc"]
    return error["type"] == "too_short" and any(
        e["loc"][: len(place)] == place != e["loc"] for e in errors
    )


def _meant(model: type[BaseModel], error: Any) -> tuple[str | int | None, ...]:
    """Return the location of the key that an unknown key may mean."""
    *parents, key = error["loc"]
    _, section = _place(model, error["loc"])
    return (*parents, closest(key, section.model.model_fields))


def closest(key: str, known: Iterable[str]) -> str | None:
    """Return the known key that a misspelt one may mean, if there is one.

    Example:
        >>> closest("meta_step_sze", ["meta_step_size", "shots"])
        'meta_step_size'
    """
    return next(iter(get_close_matches(key, sorted(known), n=1, cutoff=CLOSE)), None)


def unknown_key(key: str, known: Iterable[str], choices: str) -> str:
    """Return the message for an unknown key, with the one that it may mean or all choices."""
    near = closest(key, known)
    hint = f"choose from {choices}" if near is None else f"did you mean {near!r}?"
    return f"unknown key {shorten(key)}; {hint}"


def _key(location: Iterable[str | int]) -> str:
    """Format a place in a file: cells[1].algorithm."""
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{word(part)}" for part in location
    ).lstrip(".")


def word(name: str) -> str:
    """Format a key in a place: short, and without control characters."""
    return cut(name if name.isprintable() else ascii(name))


def _description(section: _Section, place: Sequence[str | int], error: Any) -> str:
    """Say what must hold at a place in a section, and what was found."""
    names = [part for part in place if isinstance(part, str)]
    name, value = word(names[-1]) if names else "it", shorten(error["input"])
    match error["type"]:
        case "extra_forbidden":
            fields = section.model.model_fields
            return unknown_key(names[-1], fields, ", ".join(sorted(fields)) or "none")
        case "missing" if isinstance(place[-1], int):
            return f"{name} is missing an item"
        case "missing":
            return f"missing key {name!r}"
        case "union_tag_not_found":
            return f"missing key {name!r}; choose from {_quoted(section.members)}"
        case "union_tag_invalid":
            came = shorten(error["input"][name])
            return f"unknown {name} {came}; choose from {_quoted(section.members)}"
        case "literal_error":
            known = error["ctx"]["expected"].replace(" or ", ", ")
            return f"unknown {name} {value}; choose from {known}"
        case "value_error":
            return str(error["ctx"]["error"])
        case "json_invalid":
            return f"it must consist of text and numbers: {error['ctx']['error']}"
        case "string_pattern_mismatch":
            name = "a name" if name == "[key]" else name
            return (
                f"{name} must be lower-case letters, digits and hyphens, 40 at most, a letter "
                f"first; got {value}"
            )
    rule = error["msg"].partition(" should ")[2] or f"be valid: {error['msg']}"
    for pydantic_text, plain in PLAIN.items():
        rule = rule.replace(pydantic_text, plain)
    return f"{name} must {rule}, got {value}"


class _Section(NamedTuple):
    """The model that a key belongs to.

    If the previous key was a choice between models: those models by their tags.
    """

    model: type[BaseModel]
    members: dict[str | int, type[BaseModel]]


def _place(
    model: type[BaseModel], location: Sequence[str | int]
) -> tuple[tuple[str | int, ...], _Section]:
    """Return a place as in the file, without the tags that pydantic adds, and its section."""
    place, section, tagged = list[str | int](), _Section(model, {}), False
    for part in location:
        if part in section.members:
            section = _Section(section.members[part], {})
            continue
        if tagged and isinstance(part, str):
            tagged = False
            continue
        place.append(part)
        if isinstance(part, int):
            tagged = False
            continue
        field = section.model.model_fields.get(part)
        models = list(_models(field.annotation)) if field else []
        tag = field.discriminator if field else None
        members = {
            m.model_fields[tag].default if isinstance(tag, str) else m.__name__: m for m in models
        }
        tagged = field is not None and not models and _is_choice(field.annotation)
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


def _is_choice(annotation: Any) -> bool:
    """Return whether a type is one of several besides None; pydantic names the one it tried."""
    if get_origin(annotation) not in (Union, UnionType):
        return False
    return sum(part is not type(None) for part in get_args(annotation)) > 1


def shorten(value: Any) -> str:
    """Return a value as text of 80 characters at most."""
    return cut(SHORT.repr(value))


def cut(text: str) -> str:
    """Return a text, cut with dots if it has more than 80 characters."""
    return text if len(text) <= 80 else f"{text[:77]}..."
