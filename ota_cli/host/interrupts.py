"""Ctrl-C, SIGTERM and a terminal that hangs up: each ends the program once, cleaned up and told."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from types import FrameType
from typing import Iterator, List, NoReturn, Optional

from ..errors import SignalReceived

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def hold_interrupts() -> None:
    """Keeps them waiting for `catch_interrupts`: while the program loads, nobody could tell."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)


def catch_interrupts() -> None:
    """From here on each raises SignalReceived, those that waited at once.

    Those that were ignored when the program started stay so: `nohup ota update` goes on.
    """
    for number in _INTERRUPTS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)


def ignore_interrupts() -> None:
    """From here to the end of the program: how it ends is decided, and is told whole."""
    for number in _INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


def end_with_stdin() -> None:
    """Ends the program as SIGTERM does once its standard input ends: whoever began it is gone."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignores interrupts while the block, which must be short, runs."""
    before = [signal.signal(number, signal.SIG_IGN) for number in _INTERRUPTS]
    try:
        yield
    finally:
        for number, handler in zip(_INTERRUPTS, before):
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Interrupts wait until the block, which must be short, is done: it is done whole."""
    came: List[int] = []
    before = {number: signal.getsignal(number) for number in _INTERRUPTS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _interrupt(number: int, frame: Optional[FrameType]) -> NoReturn:
    ignore_interrupts()  # an impatient second Ctrl-C must not break off the cleaning up
    raise SignalReceived(number)
