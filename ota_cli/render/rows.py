"""The rows of a live display: who, phase, percent, bar, speed and time left. Pure."""

from __future__ import annotations

from typing import List, Mapping, NamedTuple, Tuple

from ..core.text import duration
from ..events import PhaseStarted, Plain, Progress
from .course import Course
from .pace import Pace
from .words import phase_name, speed_text

#: Texts with the style of each.
Segments = Tuple[Tuple[str, str], ...]

#: How events name the ECU that this runs on, and how rows do, beside others.
_OWN, _OWN_NAME = "", "here"
_PHASE_WIDTH, _SPEED_WIDTH, _LEFT_WIDTH = 8, 9, 12
_LEAST_BAR, _LARGEST_BAR = 5, 40


class Row(NamedTuple):
    """The way of one ECU."""

    course: Course = Course()
    pace: Pace = Pace()

    def after(self, event: Plain, now_s: float) -> Row:
        """The same after `event`, at `now_s`."""
        course = self.course.after(event)
        is_moving = isinstance(event, (PhaseStarted, Progress))
        return Row(course, self.pace.after(course, now_s) if is_moving else self.pace)


def shown(rows: Mapping[str, Row], width: int, now_s: float, is_ascii: bool) -> List[Segments]:
    """The lines of those `rows` that can tell how far they are, none wider than `width`.

    What there is no room for is left out: first the bar, then speed, then the time left.
    """
    measured = {ecu_id: row for ecu_id, row in rows.items() if row.course.is_measured}
    if list(measured) in ([], [_OWN]):
        names = dict.fromkeys(measured, "")
    else:
        longest = max(len(ecu_id or _OWN_NAME) for ecu_id in measured)
        names = {ecu_id: f"{ecu_id or _OWN_NAME:<{longest}} " for ecu_id in measured}
    return [_line(names[each], row, width, now_s, is_ascii) for each, row in measured.items()]


def _line(name: str, row: Row, width: int, now_s: float, is_ascii: bool) -> Segments:
    head = f"{name}{phase_name(row.course):<{_PHASE_WIDTH}} {row.course.percent:>3} %"
    tail = _tail(row, now_s, width - len(head))
    room = min(width - len(head) - len(tail) - 2, _LARGEST_BAR)
    bar = _bar(row.course, room, is_ascii) if room >= _LEAST_BAR else ()
    return ((head[:width], ""), *bar, (tail, ""))


def _tail(row: Row, now_s: float, room: int) -> str:
    """Speed and time left, as far as they are known; always of the same width."""
    if not row.pace.places or row.course.percent == 100:
        return ""
    speed, left_s = row.pace.speed(now_s), row.pace.seconds_left(now_s)
    speed_shown = "" if speed is None else speed_text(speed)
    left_shown = "" if left_s is None else f"{duration(left_s)} left"
    parts = (f" {left_shown:>{_LEFT_WIDTH}}", f" {speed_shown:>{_SPEED_WIDTH}}")
    if len(parts[0]) + len(parts[1]) <= room:
        return parts[1] + parts[0]
    return parts[0] if len(parts[0]) <= room else ""


def _bar(course: Course, width: int, is_ascii: bool) -> Segments:
    full = width if course.left == 0 else min(width - 1, int(width * (1 - course.left)))
    done, rest = ("#", "-") if is_ascii else ("\u2501", "\u2500")
    return (("  ", ""), (done * full, "cyan"), (rest * (width - full), "bright_black"))
