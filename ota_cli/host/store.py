"""The files `ota` keeps on a device: the state, the history, and the lock."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Iterator, Optional

from ..core.history import format_end, is_same_end, parse_end
from ..core.record import Record, Transaction, format_record, parse_record
from ..core.trialmark import MAX_MARK_BYTES, RUN_MARK, TRIAL, read_words
from ..errors import Busy, ConfigError, ImageDamaged, NeedsRoot, NoSpace
from ..model import Device, DirectorySlot
from .files import (
    make_directory_durably,
    read_limited,
    room_hint,
    write_durably,
    writing_hint,
)

MAX_STATE_BYTES = 1024 * 1024
MAX_HISTORY_LINES = 200
_MAX_TXN_BYTES = 256


def now() -> str:
    """The system's time as RFC 3339 in UTC."""
    return _rfc3339(time.time())


def booted(device: Device) -> str:
    """When the running system was booted (proc_stat(5), `btime`), as RFC 3339 in UTC; where that
    is not known, now."""
    with suppress(OSError, ValueError, StopIteration):
        lines = (device.root / "proc/stat").read_text("ascii").splitlines()
        since_s = next(int(line[len("btime ") :]) for line in lines if line.startswith("btime "))
        return _rfc3339(min(since_s, time.time()))
    return now()


def boot_id(device: Device) -> str:
    """The name of this boot, which no other has (random(4)); empty where there is none."""
    with suppress(OSError):
        return (device.root / "proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return ""


def _rfc3339(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def load_record(device: Device) -> Record:
    """What the device remembers; a device without a state file remembers nothing.

    Raises ConfigError when the file is damaged or can not be read.
    """
    path = device.state_directory / "state.json"
    try:
        return parse_record(read_limited(path, MAX_STATE_BYTES), str(path))
    except FileNotFoundError:
        return Record()
    except ImageDamaged as error:
        raise ConfigError(
            error.message, hint="`ota setup --repair` writes a new one", slug="state-damaged"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} can not be read: {error.strerror}") from None


def save_record(device: Device, record: Record) -> None:
    """Durably replaces the state file. Raises NoSpace, ConfigError."""
    _write(device.state_directory / "state.json", format_record(record))


def given_up_mark(device: Device) -> Path:
    """Where the deadline unit of a trial leaves the transaction it ended."""
    return device.state_directory / "given-up"


def load_trial_mark(device: Device) -> str:
    """What the running slot says of its own trial, where no kernel command line can; empty when
    it is not on trial. Who may not look there reads the copy of this boot.

    A mark that can not be read is one: nobody has confirmed that system.
    """
    own, copy = _trial_mark(device), device.root / RUN_MARK
    for place in (copy,) if own is None else (own, copy):
        try:
            return read_words(read_limited(place, MAX_MARK_BYTES))
        except FileNotFoundError:
            return read_words(b"") if place.is_symlink() else ""
        except PermissionError:
            continue
        except (OSError, ImageDamaged):
            return read_words(b"")
    return ""


def is_unmarked(device: Device) -> bool:
    """Whether the running slot certainly is not marked as on trial: a place that can not be looked
    at, or that is gone as well, proves nothing. The units say so by the same proof."""
    place = _trial_mark(device)
    if place is None:
        return False
    try:
        return place.name not in os.listdir(place.parent)
    except OSError:
        return False


@contextmanager
def mark_held(device: Device) -> Iterator[None]:
    """The units that end a trial wait for the block, or it for them; see `core.systemd`. Nothing
    where no slot that runs could be marked."""
    place = _trial_mark(device)
    try:
        descriptor = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY) if place else None
    except OSError:
        descriptor = None
    if descriptor is None:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _trial_mark(device: Device) -> Optional[Path]:
    """Where the running slot is marked; None where its tree can not be seen."""
    location = device.slots.get(device.running) if device.running else None
    if isinstance(location, DirectorySlot):
        return location.path / ".ota" / TRIAL
    return Path("/.ota") / TRIAL if device.is_this_machine else None


def decided_mark(device: Device) -> Path:
    """There while other ECUs are still to be told that the update is confirmed on all of them."""
    return device.state_directory / "joint-decided"


def extend_deadline(device: Device, more_s: int) -> None:
    """The deadline unit of this boot waits `more_s` seconds longer."""
    _write(device.root / "run" / "ota-healthy", f"{more_s}\n".encode())


def load_extension_s(device: Device) -> int:
    """What `extend_deadline` noted in this boot; 0 where nothing is."""
    try:
        data = read_limited(device.root / "run" / "ota-healthy", _MAX_TXN_BYTES)
    except (OSError, ImageDamaged):
        return 0
    return int(data) if data.strip().isdigit() else 0


def load_given_up(device: Device) -> str:
    """The transaction whose trial ended at its deadline; empty when none did, or not readable."""
    try:
        data = read_limited(given_up_mark(device), _MAX_TXN_BYTES)
    except (OSError, ImageDamaged):
        return ""
    return data.decode("ascii", "replace").strip()


def history_file(device: Device) -> Path:
    """Where the ends of updates are kept, on the boot partition: both slots see it."""
    return device.state_directory / "history.jsonl"


def append_history(device: Device, end: Transaction) -> None:
    """Adds one line to the bounded history; one that is too large is begun anew.

    An end that is the last line already is not told twice. Raises NoSpace, ConfigError.
    """
    try:
        known = _read_history(device).splitlines()
    except ImageDamaged:
        known = []
    last = parse_end(known[-1]) if known else None
    if last is not None and is_same_end(last, end):
        return
    lines = [*known, format_end(end).encode()][-MAX_HISTORY_LINES:]
    _write(history_file(device), b"".join(line + b"\n" for line in lines))


def load_history(device: Device) -> bytes:
    """The lines of the history, the oldest first; none on a device without one.

    Raises ConfigError when it can not be read.
    """
    try:
        return _read_history(device)
    except ImageDamaged as error:
        raise ConfigError(
            error.message,
            hint=f"remove {history_file(device)}: the next update begins it anew",
            slug="history-damaged",
        ) from None


def _read_history(device: Device) -> bytes:
    path = history_file(device)
    try:
        return read_limited(path, MAX_STATE_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigError(f"{path} can not be read: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    try:
        make_directory_durably(path.parent)
        write_durably(path, data, 0o644)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpace(f"no space left while writing {path}", hint=room_hint(path)) from error
        raise ConfigError(
            f"{path} can not be written: {error.strerror}", hint=writing_hint(path)
        ) from error


@contextmanager
def exclusive(device: Device) -> Iterator[None]:
    """Holds the device's lock: one `ota` at a time that changes it, or needs it to stand still.

    Raises Busy, naming the holder, when another `ota` holds it, and NeedsRoot where the lock
    may not be taken.
    """
    path = device.root / "run" / "ota.lock"
    try:
        make_directory_durably(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except PermissionError:
        raise NeedsRoot(
            f"{path} can not be opened: it locks the device", hint="run it with sudo"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} can not be opened: {error.strerror}") from None
    try:
        with suppress(OSError):  # whoever may read it can hold it, and so keep every update away
            os.fchmod(descriptor, 0o600)
        _take(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = ""
        with suppress(OSError):
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        raise Busy(
            f"another ota (pid {holder or 'unknown'}) holds {path}",
            hint="wait until it is done, then run this again",
            slug="locked",
        ) from None
    with suppress(OSError):  # who holds it is only told to people: /run may be full
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
