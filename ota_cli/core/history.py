"""How updates ended: the lines of `/boot/ota/history.jsonl`. Pure.

One JSON object a line, the oldest first, with the keys of `entry_of`. Keys are added, never
renamed; those of a newer version are passed over.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Dict, NamedTuple, Optional, Tuple

from ..model import SLOT_NAMES, SlotName
from .protocol import BadLine, Object, number, optional_text, parse_object, text
from .record import Transaction


class History(NamedTuple):
    """All ends that could be read, the oldest first, and how many lines could not."""

    ends: Tuple[Transaction, ...]
    damaged: int


def entry_of(end: Transaction) -> Dict[str, object]:
    """What one line tells of a transaction that has ended."""
    return {
        "txn": end.txn, "kind": end.kind, "outcome": end.phase, "version": end.version,
        "from": end.from_slot, "to": end.to_slot, "started": end.started, "ended": end.ended,
        "reason": end.reason, "attempts": end.attempts,
    }  # fmt: skip


def format_end(end: Transaction) -> str:
    """One line, without what ends it."""
    return json.dumps(entry_of(end), sort_keys=True)


def parse_history(data: bytes) -> History:
    """All that is whole in `data`, its texts safe to print; what is not is counted."""
    lines = [line for line in data.split(b"\n") if line.strip()]
    ends = tuple(end for end in map(parse_end, lines) if end is not None)
    return History(ends, len(lines) - len(ends))


def parse_end(line: bytes) -> Optional[Transaction]:
    """The end that `line` tells of; None for what no `ota` wrote."""
    try:
        found = parse_object(line)
        end = replace(transaction_of(found), attempts=number(found, "attempts"))
    except BadLine:
        return None
    return end if end.txn and end.kind and end.phase and end.ended else None


def is_same_end(one: Transaction, other: Transaction) -> bool:
    """Whether both tell of one end; a transaction that is begun again can end again."""
    return _identity(one) == _identity(other)


def _identity(end: Transaction) -> Tuple[object, ...]:
    return end.txn, end.phase, end.started, end.attempts


def transaction_of(found: Object) -> Transaction:
    """A transaction as documents tell it, its texts safe to print. Raises BadLine."""
    to_slot = slot_name(found, "to")
    if to_slot is None:
        raise BadLine("it was to no slot")
    return Transaction(
        txn=text(found, "txn"), kind=text(found, "kind"), phase=text(found, "outcome"),
        from_slot=slot_name(found, "from"), to_slot=to_slot, image_id=None,
        version=optional_text(found, "version"), started=text(found, "started"),
        ended=optional_text(found, "ended"), reason=text(found, "reason"),
        output=text(found, "output"),
    )  # fmt: skip


def slot_name(found: Object, key: str) -> Optional[SlotName]:
    """The slot that `key` names, if any. Raises BadLine for what is no slot."""
    name = optional_text(found, key)
    if name is not None and name not in SLOT_NAMES:
        raise BadLine(f"{key} names no slot")
    return name
