"""What a device remembers: its record as it is now, and the one way to the next, in which record,
history and log tell the same."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator, Tuple, Type

from .core.cmdline import parse as parse_cmdline
from .core.outcome import given_up, settle
from .core.record import Record
from .core.transitions import transitions
from .errors import ConfigError, NoSpace, OtaError
from .events import Emit, Warned
from .host import store
from .model import BootState, Device


def recall(device: Device, boot: BootState) -> Record:
    """The record, with the end of a transaction that `boot` has decided since; writes nothing.

    Raises ConfigError when the state file is damaged.
    """
    known = given_up(store.load_record(device), store.load_given_up(device))
    trial = parse_cmdline(device.cmdline).trial
    return settle(known, boot, device.running, trial, store.now(), store.booted(device))


def remember(device: Device, before: Record, after: Record, emit: Emit) -> None:
    """Durably replaces the record, which was `before`, and then tells what has changed.

    Raises NoSpace, ConfigError; then nothing is told.
    """
    _remember_end(device, before, after, emit)
    store.save_record(device, after)
    for change in transitions(before, after):
        emit(change)


@contextmanager
def if_room(emit: Emit, *also: Type[OtaError]) -> Iterator[None]:
    """The block notes what holds without it; that there is no room to, and each of `also`, is only
    warned of."""
    passed_over: Tuple[Type[OtaError], ...] = (NoSpace, *also)
    try:
        yield
    except passed_over as error:
        emit(Warned(f"this is not on record: {error.message}"))


def _remember_end(device: Device, before: Record, after: Record, emit: Emit) -> None:
    """One line of history, if a transaction has ended; before that is saved, for what is cut off
    in between is told, and saved, by the next session.

    A history that can not be written is only warned of: what it tells of is done.
    """
    last = after.transaction
    if last is None or last.ended is None or last == before.transaction:
        return
    try:
        store.append_history(device, last)
    except (ConfigError, NoSpace) as error:
        emit(Warned(f"this is missing from the history: {error.message}"))
