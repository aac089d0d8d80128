"""Standard streams whose listener may be gone: that must not stop an update or a confirmation."""

from __future__ import annotations

import os
from contextlib import suppress
from types import TracebackType
from typing import Optional, TextIO, Type, TypeVar

from .priority import WARNING

Sink = TypeVar("Sink")


class Stream:
    """What sinks print to: `inner`, or nothing once that is closed, full or has no reader.

    `complain` is told, in a sentence, of a loss that is not just a reader who had enough.
    `for_journal`: it reads this, so that lines tell how important they are. Characters that the
    encoding lacks are written as escapes.
    """

    def __init__(
        self,
        inner: Optional[TextIO],
        name: str,
        complain: Optional[Stream] = None,
        *,
        for_journal: bool = False,
    ) -> None:
        self._inner = inner
        self._name = name
        self._complain = complain
        self._for_journal = for_journal
        if inner is not None and hasattr(inner, "reconfigure"):
            inner.reconfigure(errors="backslashreplace")

    @property
    def encoding(self) -> str:
        return getattr(self._inner, "encoding", None) or "utf-8"

    @property
    def columns(self) -> Optional[int]:
        """How wide the terminal is; None where this is none, or it does not say."""
        if self._inner is None or not self.isatty():
            return None
        try:
            return os.get_terminal_size(self._inner.fileno()).columns or None
        except (OSError, ValueError):
            return None

    def isatty(self) -> bool:
        return self._inner is not None and not self._inner.closed and self._inner.isatty()

    def say(self, priority: int, line: str) -> None:
        """A line, of what importance if the journal reads it (sd-daemon(3)), at once."""
        self.write(f"<{priority}>{line}\n" if self._for_journal else f"{line}\n")
        self.flush()

    def write(self, text: str) -> int:
        if self._inner is not None:
            try:
                self._inner.write(text)
            except (OSError, ValueError) as error:
                self.lose(error)
        return len(text)

    def flush(self) -> None:
        if self._inner is not None:
            try:
                self._inner.flush()
            except (OSError, ValueError) as error:
                self.lose(error)

    def lose(self, error: Exception) -> None:
        """After `error`: what is buffered goes nowhere, or the interpreter would fail with it."""
        inner, self._inner = self._inner, None
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if inner is not None:
                os.dup2(nowhere, inner.fileno())
            os.close(nowhere)
        if self._complain is not None and not isinstance(error, BrokenPipeError):
            why = getattr(error, "strerror", None) or str(error)
            self._complain.say(WARNING, f"ota: warning: {self._name} can not be written: {why}")


class NothingToUndo:
    """A sink whose `with` block leaves nothing to be undone."""

    def __enter__(self: Sink) -> Sink:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Nothing to undo."""


def has_lines(encoding: str) -> bool:
    """Whether a stream of `encoding` may be given lines and bars that are not of ASCII.

    The locale that the user chose counts as well: in that of C Python writes UTF-8 all the same
    (PEP 540).
    """
    names = map(os.environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))
    locale = next(filter(None, names), "")
    return encoding.lower().replace("-", "") == "utf8" and locale not in ("C", "POSIX")
