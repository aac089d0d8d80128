"""The `ota status` document of another ECU, read back into values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from ..core.outcome import Verdict
from ..core.protocol import (
    BadLine,
    Complaint,
    Object,
    mapping,
    objects,
    optional_text,
    text,
    texts,
)
from ..core.record import Transaction
from ..model import SLOT_NAMES, SlotName
from ..status import SlotStatus, Status

_MAX_DEPTH = 8


@dataclass(frozen=True)
class Ecu:
    """An ECU below this one. `status` None: it gave no answer, and `trouble` says why.

    `ip_addr`: empty where only its name is known. `unreachable_since`: when that was first seen.
    """

    ecu_id: str
    ip_addr: str
    status: Optional[Status]
    below: Tuple[Ecu, ...] = ()
    trouble: Optional[Complaint] = None
    unreachable_since: Optional[str] = None


def parse_status(found: Object) -> Status:
    """The status in a `result`. Raises BadLine."""
    verdict = mapping(found, "verdict")
    slots = mapping(found, "slots")
    return Status(
        ecu_id=text(found, "ecu_id"),
        running=_slot_name(found, "running"),
        next=_slot_name(found, "next"),
        slots={name: _slot(mapping(slots, name)) for name in SLOT_NAMES if name in slots},
        verdict=Verdict(text(verdict, "code"), text(verdict, "text"), text(verdict, "hint")),
        last_update=_transaction(mapping(found, "last_update")),
        boot_problem=text(found, "boot_problem"),
        warnings=tuple(text({"warning": each}, "warning") for each in texts(found, "warnings")),
    )


def parse_ecus(found: Object, depth: int = 0) -> Tuple[Ecu, ...]:
    """The ECUs below the one whose document this is. Raises BadLine."""
    if depth > _MAX_DEPTH:
        raise BadLine(f"its ECUs are nested more than {_MAX_DEPTH} deep")
    return tuple(_ecu(each, depth) for each in objects(found, "ecus"))


def _ecu(found: Object, depth: int) -> Ecu:
    error = mapping(found, "error")
    complaint = Complaint(text(error, "slug"), text(error, "message"), text(error, "hint"))
    return Ecu(
        ecu_id=text(found, "ecu_id"),
        ip_addr=text(found, "ip_addr"),
        status=None if error else parse_status(found),
        below=parse_ecus(found, depth + 1),
        trouble=complaint if error else None,
        unreachable_since=optional_text(found, "unreachable_since"),
    )


def _slot_name(found: Object, key: str) -> Optional[SlotName]:
    name = optional_text(found, key)
    if name is not None and name not in SLOT_NAMES:
        raise BadLine(f"{key} names no slot")
    return name


def _slot(found: Object) -> SlotStatus:
    return SlotStatus(
        optional_text(found, "version"), text(found, "state"), text(found, "device"),
        optional_text(found, "since"),
    )  # fmt: skip


def _transaction(found: Object) -> Optional[Transaction]:
    if not found:
        return None
    to_slot = _slot_name(found, "to")
    if to_slot is None:
        raise BadLine("its last update was to no slot")
    return Transaction(
        txn=text(found, "txn"), kind=text(found, "kind"), phase=text(found, "outcome"),
        from_slot=_slot_name(found, "from"), to_slot=to_slot, image_id=None,
        version=optional_text(found, "version"), started=text(found, "started"),
        ended=optional_text(found, "ended"), reason=text(found, "reason"),
        output=text(found, "output"),
    )  # fmt: skip


def ids_of(ecus: Tuple[Ecu, ...]) -> Dict[str, Ecu]:
    """All ECUs of a tree by name."""
    found: Dict[str, Ecu] = {}
    for each in ecus:
        found.update({each.ecu_id: each, **ids_of(each.below)})
    return found
