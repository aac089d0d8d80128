"""Live progress on a terminal: a row for each ECU, what happens in lines above them."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import IO, Dict, Mapping, Optional, Tuple, Type, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from ..errors import OtaError
from ..events import Event, Progress
from .plain import PlainOutput
from .rows import Row, Segments, shown
from .stream import Stream, has_lines
from .words import event_line, of_ecu


class LiveOutput:
    """Rows vanish when the work is done; results and failures are the plain ones."""

    def __init__(self, out: Stream, err: Stream, color: bool) -> None:
        self._plain = PlainOutput(out, err, 0, color)
        console = Console(
            file=cast("IO[str]", err), no_color=not color, highlight=False, soft_wrap=True
        )
        self._console = console
        self._color = color
        #: Replaced and never changed: the thread that draws reads it without the lock.
        self._rows: Mapping[str, Row] = {}
        self._live = Live(
            self, console=console, transient=True, refresh_per_second=5,
            redirect_stdout=False, redirect_stderr=False,  # all that prints has its `Stream`
        )  # fmt: skip
        self._lock = threading.Lock()

    def __enter__(self) -> LiveOutput:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        is_ascii = not has_lines(options.encoding)
        lines = shown(self._rows, options.max_width, time.monotonic(), is_ascii)
        if lines:
            yield Text("\n", no_wrap=True, overflow="crop", end="").join(map(_text, lines))

    def emit(self, event: Event) -> None:
        with self._lock:
            ecu_id, inner = of_ecu(event)
            rows: Dict[str, Row] = dict(self._rows)
            rows[ecu_id] = rows.get(ecu_id, Row()).after(inner, time.monotonic())
            self._rows = rows
            if isinstance(inner, Progress):
                return
            line = event_line(event, self._color)
            if line:
                self._console.print(Text.from_ansi(line))

    def result(self, document: Mapping[str, object], lines: Tuple[str, ...]) -> None:
        self._plain.result(document, lines)

    def failure(self, document: Mapping[str, object], error: OtaError) -> None:
        self._plain.told(error, self._rows.get("", Row()).course)


def _text(segments: Segments) -> Text:
    return Text.assemble(*segments)
