"""Ctrl-C and SIGTERM where they would only do harm: while an answer is told or a mess removed."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import Iterator

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def ignore_interrupts() -> None:
    """From here to the end of the program: how it ends is decided, and is told whole."""
    for number in _INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignores interrupts while the block, which must be short, runs."""
    before = [signal.signal(number, signal.SIG_IGN) for number in _INTERRUPTS]
    try:
        yield
    finally:
        for number, handler in zip(_INTERRUPTS, before):
            signal.signal(number, handler)
