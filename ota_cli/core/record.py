"""What this device remembers: `/boot/ota/state.json` as a value. Pure.

The record says what was intended; what boots next is what the boot loader says
(`core.verdict` compares the two). One JSON object:

    {"schema": 1, "checksum": xxh3-64 hex of the rest, "slots": {"a": {...}, "b": {...}},
     "transaction": {...} | null, "failed": [image id, ...], "joint": {...} | null,
     "time_floor": RFC 3339 | null}

The checksum is over the canonical JSON (sorted keys, no spaces) of the object without it.
Unknown keys are kept: two versions of `ota` share this file.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Dict, Mapping, Optional, Tuple, Type, TypeVar, Union

from ..errors import ConfigError
from ..model import SLOT_NAMES, SlotName
from .claims import parse_date

SCHEMA = 1
_LONG_AGO = "1970-01-01T00:00:00Z"
#: A failed image is remembered this often; older ones are forgotten.
MAX_FAILED = 32

#: Phases of a transaction, in their order. `trial`: the trial boot has reached user space;
#: `healthy`: its health checks passed, and it waits for those of other ECUs.
STAGING, STAGED, ARMED, TRIAL, HEALTHY = "staging", "staged", "armed", "trial", "healthy"
#: How a transaction ends.
COMMITTED, FELL_BACK, WITHDRAWN = "committed", "fell_back", "withdrawn"
REPAIRED = "repaired"

#: The kind of a transaction that fills a slot again from its own image; it is never armed.
REPAIR = "repair"


@dataclass(frozen=True)
class SlotRecord:
    """What a slot is meant to hold. `state`: see DESIGN section 1. Times are RFC 3339.

    `verify_local`: how much of it was read when it was filled. `seal`: see the module of that name.
    `sources`: what was carried over from the running slot, see `persistent.sources`.
    """

    state: str = "unknown"
    version: Optional[str] = None
    image_id: Optional[str] = None
    created: Optional[str] = None
    since: Optional[str] = None
    txn: str = ""
    verify_local: Optional[str] = None
    seal: str = ""
    sources: str = ""
    unknown: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """True for a system that was committed or adopted: a lost trial does not change that."""
        return self.state in ("good", "adopted")


@dataclass(frozen=True)
class Transaction:
    """The last update or switch. `kind`: `update`, `rollback`, `switch-slot` or `repair`.

    `reason`: why it fell back. `output`: what the health checks that failed printed.
    `attempts`: trials that never reached user space. `was`: the state of the slot before its
    repair, which it has again in the end. `armed_in`: the boot in which the boot loader was told,
    by the kernel's own name for it (random(4), `boot_id`); empty where that is not known.
    """

    txn: str
    kind: str
    phase: str
    from_slot: Optional[SlotName]
    to_slot: SlotName
    image_id: Optional[str]
    version: Optional[str]
    started: str
    ended: Optional[str] = None
    reason: str = ""
    attempts: int = 0
    output: str = ""
    was: str = ""
    armed_in: str = ""
    unknown: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class JointCommit:
    """That transaction `txn` is confirmed on all ECUs that tried it, or on none.

    `decides`: this ECU says so to all; else one above it does. For the one that decides:
    `ecu_ids`: the ECUs below it that try the new system; `decided`: when they were all found
    healthy; `untold`: those that have not acknowledged that; `takes_part`: this ECU tries it as
    well. `given_up`: why that will never be decided, for any ECU.
    """

    txn: str
    decides: bool
    ecu_ids: Tuple[str, ...] = ()
    decided: Optional[str] = None
    untold: Tuple[str, ...] = ()
    given_up: str = ""
    takes_part: bool = True
    unknown: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """All of the state file. `unknown`, at each level: keys of a newer schema, kept as they
    are for as long as what they are about stays.

    `time_floor`: the newest signed `created` of the images that were confirmed here.
    """

    slots: Mapping[SlotName, SlotRecord] = field(
        default_factory=lambda: {name: SlotRecord() for name in SLOT_NAMES}
    )
    transaction: Optional[Transaction] = None
    failed: Tuple[str, ...] = ()
    joint: Optional[JointCommit] = None
    time_floor: Optional[str] = None
    schema: int = SCHEMA
    more_slots: Mapping[str, object] = field(default_factory=dict)
    unknown: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_joint(self) -> bool:
        """Whether what was updated here is confirmed together with other ECUs."""
        last, joint = self.transaction, self.joint
        return last is not None and joint is not None and last.txn == joint.txn

    @property
    def open_joint(self) -> Optional[JointCommit]:
        """What this ECU has still to decide for others; nothing once its own trial has ended."""
        joint, last = self.joint, self.transaction
        if joint is None or not joint.decides or joint.decided or joint.given_up:
            return None
        if not joint.takes_part:
            return joint
        tried = last is not None and last.phase in (ARMED, TRIAL, HEALTHY)
        return joint if tried and self.is_joint else None

    def without_own_joint(self) -> Record:
        """A record in which this ECU tries nothing together with others any more. What it has
        decided it still tells."""
        joint = self.joint
        if joint is None or joint.decided or not joint.takes_part:
            return self
        return replace(self, joint=None)

    def without_decision(self, why: str) -> Record:
        """A record in which the joint commit will never be decided; only where there is one."""
        assert self.joint is not None
        last, joint = self.transaction, replace(self.joint, given_up=why)
        if last is not None and self.is_joint and last.phase == HEALTHY:
            last = replace(last, reason=why)
        return replace(self, joint=joint, transaction=last)

    def with_slot(self, slot: SlotName, **changes: Any) -> Record:
        """A record in which `changes` were made to `slot`."""
        slots = dict(self.slots)
        slots[slot] = replace(slots[slot], **changes)
        return replace(self, slots=slots)

    def with_state(self, slot: SlotName, state: str) -> Record:
        """A record with `slot` in `state`; one that is known to be good stays so, whatever comes
        of its trial."""
        return self if self.slots[slot].is_good else self.with_slot(slot, state=state)

    def with_time_of(self, slot: SlotName) -> Record:
        """A record that knows that it is later than when the system in `slot` was made, if that
        is known."""
        made, known = self.slots[slot].created, self.time_floor
        with suppress(ValueError):
            if made and parse_date(made) > parse_date(known or _LONG_AGO):
                return replace(self, time_floor=made)
        return self

    def with_failed(self, image_id: Optional[str]) -> Record:
        """A record that remembers `image_id` as one that fell back."""
        if not image_id or image_id in self.failed:
            return self
        return replace(self, failed=(*self.failed, image_id)[-MAX_FAILED:])

    def attempts_of(self, slot: SlotName, image_id: Optional[str]) -> int:
        """How many trials of `image_id` in `slot` were lost, as far as the last transaction
        knows."""
        last = self.transaction
        is_same = last is not None and (last.to_slot, last.image_id) == (slot, image_id)
        return last.attempts if last is not None and is_same else 0

    def without_failed(self, image_id: Optional[str]) -> Record:
        """A record that has forgotten that `image_id` fell back."""
        return replace(self, failed=tuple(known for known in self.failed if known != image_id))


def format_record(record: Record) -> bytes:
    """The bytes of the state file."""
    slots: Dict[str, object] = dict(record.more_slots)
    slots.update({name: _as_written(slot) for name, slot in record.slots.items()})
    document: Dict[str, object] = {
        **record.unknown,
        "schema": record.schema,
        "slots": slots,
        "transaction": _as_written(record.transaction) if record.transaction else None,
        "failed": list(record.failed),
        "joint": _as_written(record.joint) if record.joint else None,
        "time_floor": record.time_floor,
    }
    document["checksum"] = checksum(document)
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


_NOT_A_RECORD = (
    ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip


def parse_record(data: bytes, name: str) -> Record:
    """The record in `data`. Raises ConfigError, naming the file, when it is torn or rotten."""
    try:
        document = json.loads(data)
        stored = document.pop("checksum")
        if stored != checksum(document):
            raise ValueError("its checksum is wrong")
        return _record(document)
    except _NOT_A_RECORD as error:
        raise ConfigError(
            f"{name} is damaged: {error}",
            hint="`ota setup --repair` writes a new one from what the boot loader knows",
            slug="state-damaged",
        ) from None


def checksum(document: Mapping[str, object]) -> str:
    """xxh3-64 of the canonical JSON of `document`, as 16 hex digits."""
    import xxhash

    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_64_hexdigest(canonical.encode())


def _record(document: Dict[str, Any]) -> Record:
    slots = document.pop("slots")
    transaction = document.pop("transaction")
    failed = tuple(str(image_id) for image_id in document.pop("failed"))
    return Record(
        schema=max(SCHEMA, int(document.pop("schema"))),
        more_slots={name: slot for name, slot in slots.items() if name not in SLOT_NAMES},
        slots={name: _known(SlotRecord, slots.get(name, {})) for name in SLOT_NAMES},
        transaction=_known(Transaction, transaction) if transaction else None,
        failed=failed,
        joint=_joint(document.pop("joint", None)),
        time_floor=_date(document.pop("time_floor", None)),
        unknown=document,
    )


def _date(text: Optional[str]) -> Optional[str]:
    if text is not None:
        parse_date(text)
    return text


def _joint(values: Optional[Mapping[str, Any]]) -> Optional[JointCommit]:
    if not values:
        return None
    found = _known(JointCommit, values)
    return replace(found, ecu_ids=tuple(found.ecu_ids), untold=tuple(found.untold))


Value = TypeVar("Value")


def _known(kind: Type[Value], values: Mapping[str, Any]) -> Value:
    """A `kind` of `values`; those this version does not know become its `unknown`."""
    names = {each.name for each in fields(kind)} - {"unknown"}  # type: ignore[arg-type]
    known = {name: value for name, value in values.items() if name in names}
    unknown = {name: value for name, value in values.items() if name not in names}
    return kind(**{**known, "unknown": unknown})


def _as_written(value: Union[SlotRecord, Transaction, JointCommit]) -> Dict[str, object]:
    known = asdict(value)
    unknown: Dict[str, object] = known.pop("unknown")
    return {**unknown, **known}
