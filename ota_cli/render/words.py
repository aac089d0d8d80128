"""Events and failures as lines of text. Pure."""

from __future__ import annotations

from typing import List, Tuple

from ..core.text import printable
from ..errors import Footprint, OtaError
from ..events import Event, Note, OfEcu, PhaseStarted, Plain, Warned

_RED, _YELLOW, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[0m"


def event_line(event: Event, color: bool) -> str:
    """The line of an event that has one; empty for those without words."""
    if isinstance(event, OfEcu):
        line = event_line(event.event, color)
        return f"{printable(event.ecu_id)}: {line}" if line else ""
    if isinstance(event, PhaseStarted):
        return f"{printable(event.text)} ..."
    if isinstance(event, Note):
        return printable(event.text)
    if isinstance(event, Warned):
        return f"{_painted('warning:', _YELLOW, color)} {printable(event.text)}"
    return ""


def of_ecu(event: Event) -> Tuple[str, Plain]:
    """The ECU on which `event` happens, empty for this one, and what that is."""
    if isinstance(event, OfEcu):
        return printable(event.ecu_id), event.event
    return "", event


def is_warning(event: Event) -> bool:
    """Whether this is told even to those who want to hear little."""
    return isinstance(of_ecu(event)[1], Warned)


def failure_lines(error: OtaError, color: bool) -> List[str]:
    """What failed, what to do, and what has been touched."""
    lines = [f"{_painted('ota: error:', _RED, color)} {printable(error.message)}"]
    if error.hint:
        lines.append(f"hint: {printable(error.hint)}")
    lines.append((error.footprint or Footprint.NOTHING).value)
    return lines


def _painted(text: str, paint: str, color: bool) -> str:
    return f"{paint}{text}{_PLAIN}" if color else text
