"""Live progress on a terminal: one bar for the current phase of each ECU, notes above them."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import IO, Dict, Mapping, NamedTuple, Optional, Tuple, Type, cast

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

from ..errors import OtaError
from ..events import Event, Phase, PhaseStarted, Progress
from .plain import PlainOutput
from .stream import Stream
from .words import event_line, is_warning, of_ecu


class _Row(NamedTuple):
    """The bar of an ECU."""

    phase: Phase
    task: TaskID


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
            TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(),
            TransferSpeedColumn(), TimeRemainingColumn(), console=console, transient=True,
            redirect_stdout=False, redirect_stderr=False,  # all that prints has its `Stream`
        )  # fmt: skip
        self._rows: Dict[str, _Row] = {}
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
            ecu_id, inner = of_ecu(event)
            if isinstance(inner, Progress):
                self._advance(ecu_id, inner)
                return
            if isinstance(inner, PhaseStarted):
                self._drop(ecu_id)
            line = event_line(event, self._color)
            if line and (self._verbosity >= 0 or is_warning(event)):
                self._console.print(Text.from_ansi(line))

    def _advance(self, ecu_id: str, event: Progress) -> None:
        if self._verbosity < 0:
            return
        row = self._rows.get(ecu_id)
        if row is None or row.phase is not event.phase:
            self._drop(ecu_id)
            text = f"{ecu_id} {event.phase.value}".strip()
            row = _Row(event.phase, self._bars.add_task(text, total=event.total_bytes))
            self._rows[ecu_id] = row
        self._bars.update(row.task, completed=event.done_bytes)

    def _drop(self, ecu_id: str) -> None:
        row = self._rows.pop(ecu_id, None)
        if row is not None:
            self._bars.remove_task(row.task)

    def result(self, document: Mapping[str, object], lines: Tuple[str, ...]) -> None:
        self._plain.result(document, lines)

    def failure(self, document: Mapping[str, object], error: OtaError) -> None:
        self._plain.failure(document, error)
