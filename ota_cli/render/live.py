"""Live progress on a terminal: one bar for the current phase, notes above it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import IO, Mapping, Optional, Tuple, Type, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import (
    Progress as Bars,
)
from rich.text import Text

from ..core.text import printable
from ..errors import OtaError
from ..events import Event, Phase, PhaseStarted, Progress, Warned
from .plain import PlainOutput
from .stream import Stream
from .words import event_line


class LiveOutput:
    """Bars vanish when the work is done; results and failures are the plain ones."""

    def __init__(self, out: Stream, err: Stream, verbosity: int, color: bool) -> None:
        self._plain = PlainOutput(out, err, verbosity, color)
        console = Console(
            file=cast("IO[str]", err), no_color=not color, highlight=False, soft_wrap=True
        )
        self._console = console
        self._verbosity = verbosity
        self._color = color
        self._bars = Bars(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(),
            TransferSpeedColumn(), TimeRemainingColumn(), console=console, transient=True,
        )  # fmt: skip
        self._task: Optional[TaskID] = None
        self._phase: Optional[Phase] = None
        self._lock = threading.Lock()

    def __enter__(self) -> LiveOutput:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._bars.stop()

    def emit(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, Progress):
                self._advance(event)
                return
            if isinstance(event, PhaseStarted):
                self._drop()
            line = event_line(event, self._color)
            if line and (self._verbosity >= 0 or isinstance(event, Warned)):
                self._console.print(Text.from_ansi(line))

    def _advance(self, event: Progress) -> None:
        if self._verbosity < 0:
            return
        if self._task is None or event.phase is not self._phase:
            self._drop()
            self._phase = event.phase
            self._task = self._bars.add_task(printable(event.phase.value), total=event.total_bytes)
        self._bars.update(self._task, completed=event.done_bytes)

    def _drop(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None

    def result(self, document: Mapping[str, object], lines: Tuple[str, ...]) -> None:
        self._plain.result(document, lines)

    def failure(self, document: Mapping[str, object], error: OtaError) -> None:
        self._plain.failure(document, error)
