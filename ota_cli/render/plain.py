"""Plain lines for pipes, cron and logs: no animation, and never many of them."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Callable, Dict, Mapping, Optional, Tuple, Type

from ..core.text import printable
from ..errors import OtaError
from ..events import Event, Phase, Progress
from .priority import ERROR, INFO, priority
from .stream import Stream
from .words import event_line, failure_lines, is_warning, of_ecu


class Cadence:
    """Lets a progress line through when 10 % and 30 s have passed since the last one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._phase: Optional[Phase] = None
        self._percent = 0
        self._time = clock()

    def due(self, event: Progress) -> bool:
        """Whether `event` is worth a line; the first of a phase is not, its start had one."""
        percent = event.done_bytes * 100 // event.total_bytes if event.total_bytes else 100
        now = self._clock()
        if event.phase is not self._phase:
            self._phase, self._percent, self._time = event.phase, 0, now
        if percent - self._percent < 10 or now - self._time < 30:
            return False
        self._percent, self._time = percent, now
        return True


class PlainOutput:
    """Results to stdout; events, warnings and failures to stderr."""

    def __init__(self, out: Stream, err: Stream, verbosity: int, color: bool) -> None:
        self._out = out
        self._err = err
        self._verbosity = verbosity
        self._color = color
        self._cadences: Dict[str, Cadence] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> PlainOutput:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Nothing to undo."""

    def emit(self, event: Event) -> None:
        with self._lock:
            self._show(event)

    def _show(self, event: Event) -> None:
        if self._verbosity < 0 and not is_warning(event):
            return
        ecu_id, inner = of_ecu(event)
        if isinstance(inner, Progress):
            cadence = self._cadences.setdefault(ecu_id, Cadence(time.monotonic))
            if cadence.due(inner):
                percent = inner.done_bytes * 100 // inner.total_bytes
                text = f"{inner.phase.value}: {percent} %"
                self._err.say(INFO, f"{ecu_id}: {text}" if ecu_id else text)
            return
        line = event_line(event, self._color)
        if line:
            self._err.say(priority(event), line)

    def result(self, document: Mapping[str, object], lines: Tuple[str, ...]) -> None:
        for line in lines:
            print(printable(line), file=self._out)
        self._out.flush()

    def failure(self, document: Mapping[str, object], error: OtaError) -> None:
        for line in failure_lines(error, self._color):
            self._err.say(ERROR, line)
