"""Ctrl-C, SIGTERM and a terminal that hangs up: each ends the program once, cleaned up and told."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Callable, Iterator, List, NoReturn, Optional, Union

from ..errors import SignalReceived

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Handler = Union[signal.Handlers, Callable[[int, Optional[FrameType]], object]]


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
        with suppress(OSError):  # also a connection that was reset
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignores interrupts while the block, which must be short, runs."""
    with _handled_by(signal.SIG_IGN):
        yield


@contextmanager
def deferred() -> Iterator[None]:
    """Interrupts wait until the block, which must be short, is done: it is done whole.

    So is the start of a thread: one that starts when they come would be one that nobody knows of,
    and nobody ends. To another thread than the main one they never come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: List[int] = []
    try:
        with _handled_by(lambda number, frame: came.append(number)):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


@contextmanager
def _handled_by(handler: _Handler) -> Iterator[None]:
    """Those that are not ignored anyway go to `handler` while the block runs."""
    before = {number: signal.getsignal(number) for number in _INTERRUPTS}
    for number, usual in before.items():
        if usual is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


def _interrupt(number: int, frame: Optional[FrameType]) -> NoReturn:
    ignore_interrupts()  # an impatient second Ctrl-C must not break off the cleaning up
    raise SignalReceived(number)
