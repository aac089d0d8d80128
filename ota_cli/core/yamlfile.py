"""YAML mappings whose errors name file and line. Pure: text in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, TypeVar

from ..errors import ConfigError

Value = TypeVar("Value")


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
        """A string; numbers are taken as they were written."""
        is_text = isinstance(self.value, (str, int)) and not isinstance(self.value, bool)
        if is_text and str(self.value):
            return str(self.value)
        raise self.wrong("expected text")

    def whole_number(self, least: int, most: int) -> int:
        """A whole number within bounds."""
        text = str(self.value)
        if isinstance(self.value, bool) or not text.isdigit() or not least <= int(text) <= most:
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
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}:{line}: not YAML: {error.problem}", slug="bad-yaml") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {error}", slug="bad-yaml") from None
    return _item(node, name).mapping() if node is not None else {}


def _item(node: Any, name: str) -> Item:
    import yaml

    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return Item(_mapping(node, name), name, line)
    if isinstance(node, yaml.SequenceNode):
        return Item([_item(each, name) for each in node.value], name, line)
    return Item(yaml.SafeLoader("").construct_object(node), name, line)


def _mapping(node: Any, name: str) -> Dict[str, Item]:
    found: Dict[str, Item] = {}
    for key_node, value_node in node.value:
        key = _item(key_node, name)
        if not isinstance(key.value, str):
            raise key.wrong("keys must be text")
        if key.value in found:
            raise key.wrong(f"{key.value} is there twice")
        found[key.value] = _item(value_node, name)
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
