"""`--log-file`: everything that happens, a line each with its time, for whoever looks later."""

from __future__ import annotations

import os
import stat
import threading
from datetime import datetime, timezone
from typing import Mapping, Tuple

from ..core.text import printable
from ..core.urls import redacted
from ..errors import ConfigError, OtaError
from ..events import Changed, Event, Progress
from .priority import ERROR, INFO, NAMES, priority
from .stream import NothingToUndo, Stream
from .words import event_line, failure_lines, of_ecu

#: Of a line; what a server said may be long.
_MAX_TEXT = 4000


class LogFile(NothingToUndo):
    """Lines of the form `TIME COMMAND[PID] LEVEL: TEXT`, appended to what is there.

    A log that can not be written any more, on a full disk say, is told of once and goes on
    nowhere: the command is what counts.
    """

    def __init__(self, stream: Stream, command: str) -> None:
        self._stream = stream
        self._who = f"{command or 'ota'}[{os.getpid()}]"
        self._lock = threading.Lock()

    def __enter__(self) -> LogFile:
        self._line(INFO, "begins")
        return self

    def emit(self, event: Event) -> None:
        text = _text(event)
        if text:
            self._line(priority(event), text)

    def result(self, document: Mapping[str, object], lines: Tuple[str, ...]) -> None:
        for line in lines:
            self._line(INFO, line)
        self._line(INFO, f"ends with exit code {document['exit_code']}")

    def failure(self, document: Mapping[str, object], error: OtaError) -> None:
        _, *more = failure_lines(error, color=False)
        for line in (error.message, *more):
            self._line(ERROR, line)
        self._line(INFO, f"ends with exit code {error.exit_code} ({error.slug})")

    def _line(self, level: int, text: str) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f"{now} {self._who} {NAMES[level]}: {printable(redacted(text, _MAX_TEXT))}\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()


def open_log(path: str, command: str, complain: Stream) -> LogFile:
    """Appends to the file at `path`, which is made, for its owner only, where there is none.

    Raises ConfigError for what is no regular file, a symlink say, and where it can not be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise ConfigError(
            f"the log file {path} can not be opened: {error.strerror}",
            hint="--log-file takes a regular file, no symlink, in a directory that is there",
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError(
            f"the log file {path} is no regular file", hint="give --log-file another name"
        )
    inner = os.fdopen(descriptor, "a", encoding="utf-8")
    return LogFile(Stream(inner, f"the log file {path}", complain=complain), command)


def _text(event: Event) -> str:
    """In words; empty for what only programs need."""
    ecu_id, inner = of_ecu(event)
    who = f"{ecu_id}: " if ecu_id else ""
    if isinstance(inner, Changed):
        return f"{who}{inner.text}"
    if isinstance(inner, Progress):
        return f"{who}{inner.phase.value}: {inner.done_bytes} of {inner.total_bytes} bytes"
    return event_line(event, color=False)
