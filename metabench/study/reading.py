"""Read YAML or JSON text into a mapping, unambiguously and without duplicate keys."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import yaml

from metabench.study.limits import LARGEST
from metabench.study.messages import ConfigError, cut, shorten

DECIMAL = re.compile(
    r"[-+]?((0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+][0-9]+)?|\.inf|\.nan)", re.IGNORECASE
)
"""The numbers of YAML, except those only in YAML 1.1: 010 (8), 1:30 (90), 1_000, 0x1f.
"""

TEMPLATE = "__use_yte__"
"""The key by which a file asks Snakemake to run the Python in it."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that rejects surprising input.

    That is duplicate keys, aliases, tags, and numbers in unusual notation.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self._refuse("aliases are not allowed", f"*{event.anchor}", event)
        if getattr(event, "tag", None) is not None:
            self._refuse("tags are not allowed", event.tag, event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag != "tag:yaml.org,2002:str":
                self._refuse("a key must be a word", "something else", key_node)
            if key_node.value in seen:
                self._refuse(
                    "give each key once", f"the duplicate key {shorten(key_node.value)}", key_node
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        if node.tag in (
            "tag:yaml.org,2002:int",
            "tag:yaml.org,2002:float",
        ) and not DECIMAL.fullmatch(node.value):
            self._refuse(
                "a number must be written in decimal digits without a leading zero",
                node.value,
                node,
            )
        return super().construct_scalar(node)

    def _refuse(self, rule: str, found: str, at: Any) -> NoReturn:
        raise ConfigError(f"{rule}, got {cut(found)} in line {at.start_mark.line + 1}")


def read(path: str | Path) -> dict[str, Any]:
    """Read one YAML file.

    Raises:
        ConfigError: It cannot be read, is too large, is not a mapping, is a template, or has a
            duplicate key.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ConfigError(f"a study file has {LARGEST} bytes at most, and this one has more")
        content = yaml.load(text.decode(), Loader=_UniqueKeyLoader)
    except ConfigError as error:
        raise ConfigError(f"{error} ({path})") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"a study file must be a mapping of keys to values, got {type(content).__name__} "
            f"({path})"
        )
    if TEMPLATE in content:
        raise ConfigError(
            f"templates are not allowed, since they run code, got {TEMPLATE} ({path})"
        )
    return content


def read_json(text: str, where: str) -> dict[str, Any]:
    """Read one JSON object.

    Args:
        text: Text of the object.
        where: What it is, for error messages.

    Raises:
        ConfigError: It is not a JSON object, has a duplicate key, or contains NaN or an infinity.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
            raise ConfigError(
                f"give each key once, got the duplicate key {shorten(twice)} ({where})"
            )
        return found

    def refuse(word: str) -> NoReturn:
        raise ConfigError(f"a number must be finite, got {word} ({where})")

    try:
        content = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not a JSON text: {error} ({where})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"it must be a JSON object, got {type(content).__name__} ({where})")
    return content
