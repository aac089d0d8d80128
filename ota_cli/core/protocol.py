"""What two ECUs say to each other: JSON objects, a line each (DESIGN section 8). Pure.

The ECU above sends one request and hears `hello`, events, and at last the document that every
`ota ... --json` ends with. What the other side says is taken into typed values here or refused:
it may be of another version, broken, or not `ota` at all. Keys and events that are not known are
left out: a newer `ota` may say more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from ..errors import EXIT_CODES, OtaError
from ..events import (
    Ahead,
    Alive,
    Changed,
    Done,
    Event,
    Hello,
    Note,
    OfEcu,
    Phase,
    PhaseStarted,
    Plain,
    Progress,
    Ready,
    Warned,
)
from .text import printable

#: Of the protocol; it grows when a line changes its meaning, not when one is added.
SCHEMA = 1
_MAX_TEXT = 2000
_MAX_NUMBER = 2**63

Object = Mapping[str, object]


class BadLine(ValueError):
    """A line that is not one of the protocol; the text says why, in a clause."""


class Complaint(NamedTuple):
    """The `error` of a document: how another ECU tells its failure."""

    slug: str
    message: str
    hint: str

    @classmethod
    def about(cls, error: OtaError) -> Complaint:
        """How `error` is told."""
        return cls(error.slug, error.message, error.hint)


@dataclass(frozen=True)
class Answer:
    """The document at the end of a conversation. `error` None: it went well."""

    exit_code: int
    error: Optional[Complaint]
    result: Object

    def failure(self, who: str) -> OtaError:
        """What `who` told, with its own exit code. Only where there is an `error`."""
        assert self.error is not None
        told = OtaError(f"{who}{self.error.message}", hint=self.error.hint, slug=self.error.slug)
        told.exit_code = self.exit_code
        return told


Line = Union[Event, Answer]


def parse_line(line: bytes) -> Optional[Line]:
    """What a line says; None for an event of a newer `ota`. Raises BadLine."""
    found = parse_object(line)
    if "event" not in found:
        return _answer(found)
    read = _EVENTS.get(text(found, "event"))
    if read is None:
        return None
    said = read(found)
    ecu_id = text(found, "ecu_id")
    return OfEcu(ecu_id, said) if ecu_id and not isinstance(said, Hello) else said


def parse_object(line: bytes) -> Object:
    """The JSON object in `line`. Raises BadLine."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise BadLine(f"it is not JSON: {_excerpt(line)}") from None
    if not isinstance(found, dict):
        raise BadLine(f"it is not a JSON object: {_excerpt(line)}")
    return found


def text(found: Object, key: str) -> str:
    """The text at `key`, shortened and safe to print; empty where it is missing or null."""
    value = found.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadLine(f"{key} is not text")
    return printable(value[:_MAX_TEXT])


def optional_text(found: Object, key: str) -> Optional[str]:
    """The same; None where it is missing, null or empty."""
    return text(found, key) or None


def number(found: Object, key: str) -> int:
    """The whole number at `key`, not negative."""
    value = found.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MAX_NUMBER:
        raise BadLine(f"{key} is not a whole number")
    return value


def flag(found: Object, key: str) -> bool:
    """The boolean at `key`; false where it is missing."""
    value = found.get(key, False)
    if not isinstance(value, bool):
        raise BadLine(f"{key} is not true or false")
    return value


def mapping(found: Object, key: str) -> Object:
    """The object at `key`; an empty one where it is missing or null."""
    value = found.get(key)
    if value is not None and not isinstance(value, dict):
        raise BadLine(f"{key} is not an object")
    return value or {}


def objects(found: Object, key: str) -> List[Object]:
    """The list of objects at `key`; an empty one where it is missing."""
    value = found.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise BadLine(f"{key} is not a list of objects")
    return value


def texts(found: Object, key: str) -> List[str]:
    """The list of texts at `key`, as they were sent; an empty one where it is missing."""
    value = found.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadLine(f"{key} is not a list of texts")
    return value


def _answer(found: Object) -> Answer:
    code = number(found, "exit_code")
    if code not in EXIT_CODES:
        raise BadLine(f"exit code {code} is not known")
    error = mapping(found, "error")
    complaint = Complaint(text(error, "slug"), text(error, "message"), text(error, "hint"))
    return Answer(code, complaint if error else None, mapping(found, "result"))


def _hello(found: Object) -> Plain:
    return Hello(number(found, "schema"), text(found, "version"), text(found, "ecu_id"))


def _phase(name: str) -> Phase:
    try:
        return Phase(name)
    except ValueError:
        return Phase.OTHER


def _names(found: Object, key: str) -> Tuple[str, ...]:
    return tuple(map(printable, texts(found, key)))


def _ahead(found: Object) -> Plain:
    work = mapping(found, "work")
    return Ahead(tuple((_phase(name), number(work, name)) for name in work))


def _progress(found: Object) -> Plain:
    total = number(found, "total_bytes")
    return Progress(_phase(text(found, "phase")), min(number(found, "done_bytes"), total), total)


def _changed(found: Object) -> Plain:
    return Changed(
        state=text(found, "state"), slot=text(found, "slot"), version=text(found, "version"),
        txn=text(found, "txn"), text=text(found, "text"), is_bad=flag(found, "is_bad"),
    )  # fmt: skip


_EVENTS: Dict[str, Callable[[Object], Plain]] = {
    "hello": _hello,
    "alive": lambda found: Alive(),
    "ready": lambda found: Ready(_names(found, "ecus"), _names(found, "trying")),
    "phase": lambda found: PhaseStarted(_phase(text(found, "phase")), text(found, "text")),
    "ahead": _ahead,
    "progress": _progress,
    "done": lambda found: Done(),
    "note": lambda found: Note(text(found, "text")),
    "warning": lambda found: Warned(text(found, "text")),
    "changed": _changed,
}


def _excerpt(line: bytes) -> str:
    shown = printable(line[:80].decode("utf-8", "replace"))
    return f"{shown} ..." if len(line) > 80 else shown
