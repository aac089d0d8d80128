"""The only place where failures become messages and exit codes.

A verb returns a `Result` or raises; here the result is printed once, to stdout, and a failure
once, to stderr (with `--json` as the one document on stdout).
"""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, NoReturn, Optional, Tuple

from ..core.text import printable
from ..errors import (
    DISK_FAILS,
    ConfigError,
    Interrupted,
    NeedsRoot,
    OtaError,
    SignalReceived,
    SlotUnusable,
)
from ..events import Ahead, Done, Emit, Event, Progress
from ..host.interrupts import ignore_interrupts
from ..render.choice import Output, open_output, standard_error
from ..render.journal import SOCKET, JournalOutput
from ..render.priority import ERROR, is_journal
from ..render.several import SeveralOutputs

#: Exit codes that are answers, not failures.
_ANSWERS = (0, 20)


@dataclass(frozen=True)
class Display:
    """How the user wants to see things. `verbosity`: -1 quiet, 0, 1 and more with -v."""

    root: Path
    output: str
    verbosity: int
    color: str
    log_file: Optional[str]


@dataclass(frozen=True)
class Call:
    """What a verb gets: the device's root, and where its events go."""

    root: Path
    emit: Emit


@dataclass(frozen=True)
class Result:
    """What a verb answers: `document` is the JSON `result`, `lines` the same for people.

    `failure`: what the answer amounts to, where it is bad news and the exit code tells so.
    `told_by_code`: the exit code says it all to who wants to hear little: with -q no line is shown,
    and of a `failure` only that.
    """

    document: Mapping[str, object]
    lines: Tuple[str, ...]
    exit_code: int = 0
    failure: Optional[OtaError] = None
    told_by_code: bool = False


def run_verb(name: str, display: Display, body: Callable[[Call], Result]) -> NoReturn:
    """Runs a verb, shows how it ended, and exits with its documented code."""
    screen = open_output(display.output, display.verbosity, display.color)
    try:
        logs = _logs(name, display)
    except ConfigError as error:
        sys.exit(_fail(name, error, screen))
    sys.exit(_attempt(name, display, body, screen, logs))


def _logs(name: str, display: Display) -> Output:
    """The device's journal, and the log file of the user, if any."""
    reads_failures = is_journal(2) and display.output not in ("json", "jsonl")
    journal = JournalOutput(display.root / SOCKET, name, tells_failures=not reads_failures)
    if display.log_file is None:
        return journal
    from ..render.logfile import open_log

    return SeveralOutputs(journal, open_log(display.log_file, name, standard_error()))


def _attempt(
    name: str, display: Display, body: Callable[[Call], Result], screen: Output, logs: Output
) -> int:
    output = SeveralOutputs(screen, logs)
    try:
        with output:
            finish = _Finish(output.emit)
            result = body(Call(display.root, finish.emit))
            ignore_interrupts()
            finish.tell()
    except OtaError as error:
        if error.exit_code == OtaError.exit_code and display.verbosity > 0:
            _show_traceback()
        return _fail(name, error, output)
    except SignalReceived as received:
        return _fail(name, Interrupted(received), output)
    except Exception as error:  # noqa: BLE001 (the one boundary: a bug gets its exit code here)
        what = _refused_by_system(error) or _bug(error)
        what.footprint = getattr(error, "footprint", None)
        if display.verbosity > 0:
            _show_traceback()
        return _fail(name, what, output)
    code = result.failure.exit_code if result.failure else result.exit_code
    answer = document(name, code, result.document, result.failure)
    _show(screen, result, answer, is_quiet=display.verbosity < 0)
    logs.result(answer, result.lines)
    return code


def _show_traceback() -> None:
    """For whoever reports a bug; what other programs and servers said may be in it."""
    err = standard_error()
    for line in traceback.format_exc().splitlines():
        err.say(ERROR, printable(line))


class _Finish:
    """Hands events on, and says that all is done if it was said that there is something to do."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._is_told = False

    def emit(self, event: Event) -> None:
        self._is_told = self._is_told or isinstance(event, (Ahead, Progress))
        self._emit(event)

    def tell(self) -> None:
        if self._is_told:
            self._emit(Done())


def _show(screen: Output, result: Result, answer: Mapping[str, object], *, is_quiet: bool) -> None:
    if not (is_quiet and result.told_by_code):
        screen.result(answer, result.lines)
    elif result.failure is None:
        screen.result(answer, ())
    else:
        screen.failure(answer, result.failure)


def _fail(name: str, error: OtaError, output: Output) -> int:
    ignore_interrupts()
    output.failure(document(name, error.exit_code, {}, error), error)
    return error.exit_code


def _refused_by_system(error: Exception) -> Optional[OtaError]:
    """What no place can do anything about and any may meet: a disk that fails, and what an ordinary
    user may not read or write; root may do everything, there it is a bug."""
    if not isinstance(error, OSError):
        return None
    if error.errno in DISK_FAILS:
        return SlotUnusable(
            f"{error.filename or 'a file'} can not be read or written: {error.strerror}",
            hint="a disk is failing, as `dmesg` then tells; if it does not, report what -v prints",
            slug="disk-failing",
        )
    if isinstance(error, PermissionError) and os.geteuid() != 0 and error.filename is not None:
        return NeedsRoot(f"{error.filename} can not be used: {error.strerror}")
    return None


def _bug(error: Exception) -> OtaError:
    return OtaError(
        f"this is a bug in ota: {type(error).__name__}: {error}",
        hint="run it again with -v and report what it prints",
        slug="bug",
    )


def document(
    command: str, exit_code: int, result: Mapping[str, object], error: Optional[OtaError] = None
) -> Mapping[str, object]:
    """The one JSON document (DESIGN section 1)."""
    return {
        "schema": 1,
        "command": command,
        "ok": exit_code in _ANSWERS,
        "exit_code": exit_code,
        "error": error.document() if error else None,
        "result": dict(result),
    }
