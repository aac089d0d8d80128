"""Events and failures as lines of text. Pure."""

from __future__ import annotations

from typing import List, Optional, Tuple

from ..core.text import duration, printable, size
from ..errors import EcuFailed, Footprint, Interrupted, OtaError, Unreachable
from ..events import Event, Note, OfEcu, Phase, PhaseStarted, Plain, Warned
from .course import Course
from .pace import Pace

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


def progress_text(course: Course, pace: Pace, now_s: float) -> str:
    """Where things stand, in a line: phase, percent of all, speed, time left."""
    words = [f"{phase_name(course)}: {course.percent} % of all"]
    speed, left_s = pace.speed(now_s), pace.seconds_left(now_s)
    words += [speed_text(speed)] if speed else []
    words += [f"{duration(left_s)} left"] if left_s is not None else []
    return ", ".join(words)


def phase_name(course: Course) -> str:
    """What is under way, in a word."""
    if course.percent == 100:
        return "done"
    return course.phase.value if course.phase else ""


def speed_text(bytes_a_second: float) -> str:
    """A speed as people read it."""
    return f"{size(round(bytes_a_second))}/s"


def of_ecu(event: Event) -> Tuple[str, Plain]:
    """The ECU on which `event` happens, empty for this one, and what that is."""
    if isinstance(event, OfEcu):
        return printable(event.ecu_id), event.event
    return "", event


def is_warning(event: Event) -> bool:
    """Whether this is told even to those who want to hear little."""
    return isinstance(of_ecu(event)[1], Warned)


def failure_lines(error: OtaError, color: bool, course: Optional[Course] = None) -> List[str]:
    """What failed, what to do, and what has been touched. `course`: how far this ECU was."""
    lines = [f"{_painted('ota: error:', _RED, color)} {printable(error.message)}"]
    if error.hint:
        lines.append(f"hint: {printable(error.hint)}")
    lines.append((error.footprint or Footprint.NOTHING).value)
    if course is not None and error.footprint in (Footprint.STANDBY, Footprint.OUTPUT):
        lines += _kept(error, course)
    return lines


def _kept(error: OtaError, course: Course) -> List[str]:
    """What the next run need not do again. A course counts what came over the wire: after any
    other `error` than these it may be content that was found wrong, and thrown away."""
    work = {"copied": Phase.FILL}
    if isinstance(error, (Interrupted, Unreachable, EcuFailed)):
        work["downloaded"] = Phase.DOWNLOAD
    done = {word: course.done(phase).done_bytes for word, phase in work.items()}
    kept = " and ".join(f"{size(count)} {word}" for word, count in done.items() if count)
    return [f"It was at {course.percent} %; kept for the next run: {kept}."] if kept else []


def _painted(text: str, paint: str, color: bool) -> str:
    return f"{paint}{text}{_PLAIN}" if color else text
