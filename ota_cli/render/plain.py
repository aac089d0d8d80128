"""Plain lines for pipes, cron and logs: no animation, and never many of them."""

from __future__ import annotations

import threading
import time
from typing import Dict, Mapping, Optional, Tuple

from ..core.text import printable, wrapped
from ..errors import OtaError
from ..events import Event, Progress
from .course import Course
from .priority import ERROR, priority
from .rows import Row
from .stream import NothingToUndo, Stream
from .words import event_line, failure_lines, is_warning, of_ecu, progress_text


class Cadence:
    """Lets a progress line through when there was none, and no other, for 30 s, and it is news."""

    def __init__(self, now_s: float) -> None:
        self._percent = -1
        self._time_s = now_s

    def spoke(self, now_s: float) -> None:
        """There was a line."""
        self._time_s = now_s

    def due(self, percent: int, now_s: float) -> bool:
        """Whether `percent` is worth a line."""
        if percent == self._percent or now_s - self._time_s < 30:
            return False
        self._percent, self._time_s = percent, now_s
        return True


class PlainOutput(NothingToUndo):
    """Results to stdout; events, warnings and failures to stderr."""

    def __init__(self, out: Stream, err: Stream, verbosity: int, color: bool) -> None:
        self._out = out
        self._err = err
        self._verbosity = verbosity
        self._color = color
        self._rows: Dict[str, Row] = {}
        self._cadences: Dict[str, Cadence] = {}
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        with self._lock:
            self._show(event)

    def _show(self, event: Event) -> None:
        if self._verbosity < 0 and not is_warning(event):
            return
        ecu_id, inner = of_ecu(event)
        now_s = time.monotonic()
        row = self._rows.get(ecu_id, Row()).after(inner, now_s)
        self._rows[ecu_id] = row
        cadence = self._cadences.setdefault(ecu_id, Cadence(now_s))
        if isinstance(inner, Progress):
            if not cadence.due(row.course.percent, now_s):
                return
            text = progress_text(row.course, row.pace, now_s)
            line = f"{ecu_id}: {text}" if ecu_id else text
        else:
            line = event_line(event, self._color)
        if line:
            cadence.spoke(now_s)
            self._err.say(priority(event), line)

    def result(self, document: Mapping[str, object], lines: Tuple[str, ...]) -> None:
        for line in lines:
            print(printable(line), file=self._out)
        self._out.flush()

    def failure(self, document: Mapping[str, object], error: OtaError) -> None:
        row = self._rows.get("")
        self.told(error, row.course if row else None)

    def told(self, error: OtaError, course: Optional[Course]) -> None:
        """Shows `error`, and how far this ECU was on its `course`."""
        for line in failure_lines(error, self._color, course):
            for part in wrapped(line, self._err.columns):
                self._err.say(ERROR, part)
