"""Which sink shows what happens: one that fits where stdout and stderr go."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Mapping, Optional, Protocol, Tuple, Type

from ..errors import OtaError
from ..events import Event
from .priority import is_journal
from .stream import Stream


class Output(Protocol):
    """Shows events while its `with` block runs, then the result or the failure, once.

    `emit` may be called from any thread.
    """

    def __enter__(self) -> Output: ...

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None: ...

    def emit(self, event: Event) -> None:
        """Shows one event."""

    def result(self, document: Mapping[str, object], lines: Tuple[str, ...]) -> None:
        """Shows what a verb answers."""

    def failure(self, document: Mapping[str, object], error: OtaError) -> None:
        """Shows why a verb failed."""


def open_output(kind: str, verbosity: int, color: str) -> Output:
    """The output for `kind` (auto, rich, plain, json, jsonl). Cheap: rich is imported last."""
    err = standard_error()
    out = Stream(sys.stdout, "stdout", complain=err)
    if kind in ("json", "jsonl"):
        from .json import JsonOutput

        return JsonOutput(out, err, with_events=kind == "jsonl", verbosity=verbosity)
    from .plain import PlainOutput

    if verbosity >= 0 and (kind == "rich" or (kind == "auto" and _is_lively(err))):
        from .live import LiveOutput

        return LiveOutput(out, err, colored(err, color))
    return PlainOutput(out, err, verbosity, colored(err, color))


def standard_error() -> Stream:
    """Where all goes that is no result."""
    return Stream(sys.stderr, "stderr", for_journal=is_journal(2))


def colored(err: Stream, color: str) -> bool:
    """Whether to colour what goes to stderr (https://no-color.org)."""
    if color != "auto":
        return color == "always"
    return err.isatty() and not os.environ.get("NO_COLOR") and _terminal() != "dumb"


def _is_lively(err: Stream) -> bool:
    return err.isatty() and _terminal() != "dumb"


def _terminal() -> str:
    return os.environ.get("TERM", "dumb")
