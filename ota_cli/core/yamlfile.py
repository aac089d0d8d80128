"""YAML mappings whose errors name file and line. Pure: text in, values out.

Only null and booleans get a type from how they look. All else is text as it was written: an ECU
named `007` or `1:30` must not become 7 or 90.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, TypeVar

from ..errors import ConfigError
from .text import printable

Value = TypeVar("Value")

_DIGITS = re.compile(r"[0-9]{1,18}")
_CORE = "tag:yaml.org,2002:"
_AS_WRITTEN = tuple(_CORE + kind for kind in ("str", "int", "float", "timestamp"))


@dataclass(frozen=True)
class Item:
    """One value of a file: what it is, and where it stands."""

    value: Any
    name: str
    line: int

    def wrong(self, why: str, hint: str = "") -> ConfigError:
        """The error to raise for this value."""
        return ConfigError(f"{self.name}:{self.line}: {why}", hint=hint, slug="bad-value")

    def text(self) -> str:
        """A string that is not empty; numbers and dates are taken as they were written."""
        if not isinstance(self.value, str) or not self.value:
            raise self.wrong("expected text")
        if printable(self.value) != self.value:
            raise self.wrong("expected text without control characters")
        return self.value

    def whole_number(self, least: int, most: int) -> int:
        """A whole number within bounds."""
        text = self.value if isinstance(self.value, str) else ""
        if not _DIGITS.fullmatch(text) or not least <= int(text) <= most:
            raise self.wrong(f"expected a whole number from {least} to {most}")
        return int(text)

    def boolean(self) -> bool:
        """A YAML boolean, or the text `true` or `false`."""
        if isinstance(self.value, bool):
            return self.value
        if isinstance(self.value, str) and self.value.lower() in ("true", "false"):
            return self.value.lower() == "true"
        raise self.wrong("expected true or false")

    def one_of(self, choices: Iterable[str]) -> str:
        """One of `choices`."""
        allowed = list(choices)
        if self.value not in allowed:
            raise self.wrong(f"expected one of {', '.join(allowed)}")
        return str(self.value)

    def items(self) -> List[Item]:
        """A list."""
        if not isinstance(self.value, list):
            raise self.wrong("expected a list")
        return self.value

    def mapping(self) -> Dict[str, Item]:
        """A mapping with text keys."""
        if not isinstance(self.value, dict):
            raise self.wrong("expected a mapping (key: value lines)")
        return self.value


def parse_mapping(text: str, name: str) -> Dict[str, Item]:
    """The top-level mapping of a file; an empty file is an empty mapping.

    Raises ConfigError for text that is not YAML, keys that are not text, and double keys.
    """
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return _Reader(name).item(node).mapping() if node is not None else {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}:{line}: not YAML: {error.problem}", slug="bad-yaml") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}: not YAML: {error.reason}", slug="bad-yaml") from None
    except RecursionError:
        raise ConfigError(f"{name}:1: it is nested too deeply", slug="bad-yaml") from None


class _Reader:
    """Makes items of nodes; what several aliases stand for is read once and shared."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._known: Dict[int, Item] = {}

    def item(self, node: Any) -> Item:
        if id(node) not in self._known:
            value = self._value(node)
            self._known[id(node)] = Item(value, self.name, node.start_mark.line + 1)
        return self._known[id(node)]

    def _value(self, node: Any) -> Any:
        import yaml

        if isinstance(node, yaml.MappingNode) and node.tag == _CORE + "map":
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == _CORE + "seq":
            return [self.item(each) for each in node.value]
        if isinstance(node, yaml.ScalarNode) and node.tag in _AS_WRITTEN:
            return node.value
        if node.tag == _CORE + "null":
            return None
        words = yaml.SafeLoader.bool_values
        if node.tag == _CORE + "bool" and str(node.value).lower() in words:
            return words[node.value.lower()]
        line = node.start_mark.line + 1
        raise Item(None, self.name, line).wrong(f"{node.tag} can not be used here")

    def _mapping(self, node: Any) -> Dict[str, Item]:
        found: Dict[str, Item] = {}
        for key_node, value_node in node.value:
            key = self.item(key_node)
            if not isinstance(key.value, str):
                raise key.wrong("keys must be text")
            if key.value in found:
                raise key.wrong(f"{key.value} is there twice")
            found[key.value] = self.item(value_node)
        return found


def optional(
    mapping: Dict[str, Item], key: str, read: Callable[[Item], Value], default: Value
) -> Value:
    """What `read` makes of the value of `key`; `default` where it is missing or empty."""
    item = mapping.get(key)
    return default if item is None or item.value is None else read(item)


def refuse_unknown(mapping: Dict[str, Item], known: Iterable[str]) -> None:
    """Raises ConfigError for the first key that is not in `known`."""
    names = set(known)
    for key, item in mapping.items():
        if key not in names:
            raise item.wrong(f"unknown key {key}", hint=f"known are: {', '.join(sorted(names))}")


def first_line(name: str, why: str, hint: Optional[str] = None) -> ConfigError:
    """The error for something that is missing from a file."""
    return ConfigError(f"{name}:1: {why}", hint=hint or "", slug="bad-value")
