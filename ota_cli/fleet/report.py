"""The documents of another ECU's status, check and update, read back into values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, Optional, Tuple

from ..core.changes import Counts, KernelChange
from ..core.history import slot_name, transaction_of
from ..core.outcome import Verdict
from ..core.protocol import (
    BadLine,
    Complaint,
    Object,
    flag,
    mapping,
    number,
    objects,
    optional_text,
    text,
    texts,
)
from ..core.record import Transaction
from ..core.text import printable
from ..model import SLOT_NAMES, SlotName
from ..status import SlotStatus, Status

_MAX_DEPTH = 8


@dataclass(frozen=True)
class Ecu:
    """An ECU below this one. `status` None: it gave no answer, and `trouble` says why.

    `ip_addr`: empty where only its name is known. `unreachable_since`: when that was first seen.
    `ota_version` and `time`, by its own clock (RFC 3339): empty where it did not say.
    """

    ecu_id: str
    ip_addr: str
    status: Optional[Status]
    below: Tuple[Ecu, ...] = ()
    trouble: Optional[Complaint] = None
    unreachable_since: Optional[str] = None
    ota_version: str = ""
    time: str = ""


@dataclass(frozen=True)
class EcuUpdated:
    """What an update or switch did on an ECU below. `slot` None: it was left out, some below were
    not.

    `ecu_ids`: it, if it took part, and all below it that did.
    """

    ecu_id: str
    version: Optional[str]
    slot: Optional[SlotName]
    armed: bool
    up_to_date: bool
    downloaded_bytes: int
    ecu_ids: Tuple[str, ...]
    below: Tuple[EcuUpdated, ...]

    @property
    def armed_ids(self) -> Tuple[str, ...]:
        """All that are armed: it, and those below it."""
        own = (self.ecu_id,) if self.armed else ()
        return (*own, *(name for each in self.below for name in each.armed_ids))


@dataclass(frozen=True)
class EcuChecked:
    """What an update would do on an ECU below. `trouble`: why it gave no answer; then it is not
    known whether one is `available`. `left_out`: it was not asked, only those below it. `files`,
    `kernel`: what it changes; None where that is nothing, or the `ota` there is too old to say."""

    ecu_id: str
    available: bool = False
    version: str = ""
    download_bytes: int = 0
    space_bytes: int = 0
    files: Optional[Counts] = None
    kernel: Optional[KernelChange] = None
    below: Tuple[EcuChecked, ...] = ()
    trouble: Optional[Complaint] = None
    left_out: bool = False

    def everybody(self) -> Iterator[EcuChecked]:
        """It, and all below it."""
        yield self
        for each in self.below:
            yield from each.everybody()


def parse_checked(found: Object, ecu_id: str, depth: int = 0) -> EcuChecked:
    """What the `result` of a check on `ecu_id` says. Raises BadLine."""
    _require_depth(depth)
    trouble = _complaint(found)
    if trouble is not None:
        return EcuChecked(ecu_id, trouble=trouble)
    below = tuple(
        parse_checked(each, text(each, "ecu_id"), depth + 1) for each in objects(found, "ecus")
    )
    if found.get("available") is None:
        return EcuChecked(ecu_id, below=below, left_out=True)
    counts, changes = mapping(found, "bytes"), mapping(found, "changes")
    return EcuChecked(
        ecu_id=ecu_id,
        available=flag(found, "available"),
        version=text(found, "version"),
        download_bytes=number(counts, "download"),
        space_bytes=number(counts, "space"),
        files=_counts(mapping(changes, "files")),
        kernel=_kernel(mapping(changes, "kernel")),
        below=below,
    )


def _counts(found: Object) -> Optional[Counts]:
    return Counts(*(number(found, name) for name in Counts._fields)) if found else None


def _kernel(found: Object) -> Optional[KernelChange]:
    if not found:
        return None
    known = {key: flag(found, key) for key in ("kernel", "initrd") if found.get(key) is not None}
    return KernelChange(
        optional_text(found, "old"), optional_text(found, "new"),
        known.get("kernel"), known.get("initrd"),
    )  # fmt: skip


def _complaint(found: Object) -> Optional[Complaint]:
    error = mapping(found, "error")
    if not error:
        return None
    return Complaint(text(error, "slug"), text(error, "message"), text(error, "hint"))


def parse_updated(found: Object, ecu_id: str, depth: int = 0) -> EcuUpdated:
    """What the `result` of an update on `ecu_id` says. Raises BadLine."""
    _require_depth(depth)
    return EcuUpdated(
        ecu_id=ecu_id,
        version=optional_text(found, "version"),
        slot=slot_name(found, "slot"),
        armed=flag(found, "armed"),
        up_to_date=flag(found, "up_to_date"),
        downloaded_bytes=_downloaded(mapping(found, "bytes")),
        ecu_ids=tuple(map(printable, texts(found, "ecu_ids"))),
        below=tuple(
            parse_updated(each, text(each, "ecu_id"), depth + 1) for each in objects(found, "ecus")
        ),
    )


def _downloaded(counts: Object) -> int:
    """None for an ECU that was left out, or only switched to what it had."""
    return number(counts, "downloaded") if counts else 0


def parse_status(found: Object) -> Status:
    """The status in a `result`. Raises BadLine."""
    verdict = mapping(found, "verdict")
    slots = mapping(found, "slots")
    return Status(
        ecu_id=text(found, "ecu_id"),
        running=slot_name(found, "running"),
        next=slot_name(found, "next"),
        slots={name: _slot(mapping(slots, name)) for name in SLOT_NAMES if name in slots},
        verdict=Verdict(text(verdict, "code"), text(verdict, "text"), text(verdict, "hint")),
        last_update=_transaction(mapping(found, "last_update")),
        boot_problem=text(found, "boot_problem"),
        warnings=tuple(text({"warning": each}, "warning") for each in texts(found, "warnings")),
    )


def parse_ecus(found: Object, depth: int = 0) -> Tuple[Ecu, ...]:
    """The ECUs below the one whose document this is. Raises BadLine."""
    _require_depth(depth)
    return tuple(_ecu(each, depth) for each in objects(found, "ecus"))


def _require_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise BadLine(f"its ECUs are nested more than {_MAX_DEPTH} deep")


def _ecu(found: Object, depth: int) -> Ecu:
    trouble = _complaint(found)
    return Ecu(
        ecu_id=text(found, "ecu_id"),
        ip_addr=text(found, "ip_addr"),
        status=None if trouble else parse_status(found),
        below=parse_ecus(found, depth + 1),
        trouble=trouble,
        unreachable_since=optional_text(found, "unreachable_since"),
        ota_version=text(found, "ota"),
        time=text(found, "time"),
    )


def _slot(found: Object) -> SlotStatus:
    return SlotStatus(
        optional_text(found, "version"), text(found, "state"), text(found, "device"),
        optional_text(found, "since"), _size(found, "size_bytes"), _size(found, "used_bytes"),
    )  # fmt: skip


def _size(found: Object, key: str) -> Optional[int]:
    return None if found.get(key) is None else number(found, key)


def _transaction(found: Object) -> Optional[Transaction]:
    return transaction_of(found) if found else None


def ids_of(ecus: Tuple[Ecu, ...]) -> Dict[str, Ecu]:
    """All ECUs of a tree by name."""
    found: Dict[str, Ecu] = {}
    for each in ecus:
        found.update({each.ecu_id: each, **ids_of(each.below)})
    return found
