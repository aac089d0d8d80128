"""What changed between two records, as events: for logs. Pure."""

from __future__ import annotations

from typing import Iterator, Optional, Tuple

from ..events import Changed
from ..model import SLOT_NAMES
from . import record as phases
from .record import Record, Transaction

_TEXTS = {
    phases.STAGING: "slot {slot} is being filled with {what}; it is not booted until that is done",
    phases.STAGED: "{what} is staged in slot {slot}",
    phases.ARMED: "{what} in slot {slot} is armed: the next boot tries it",
    phases.TRIAL: "{what} in slot {slot} runs on trial",
    phases.HEALTHY: "{what} in slot {slot} is healthy and waits for the other ECUs of its update",
    phases.COMMITTED: "{what} in slot {slot} is confirmed",
    phases.FELL_BACK: "{what} in slot {slot} fell back",
    phases.REPAIRED: "slot {slot} equals {what} again",
    phases.WITHDRAWN: "{what} in slot {slot} is taken back: it is not tried any more",
}
#: What is no update stages nothing.
_BEGUN = "a {kind} to {what} in slot {slot} begins"


def transitions(before: Record, after: Record) -> Tuple[Changed, ...]:
    """What a person who reads the log later wants to know of, in order; mostly one or nothing."""
    return (*_of_transaction(before.transaction, after.transaction), *_of_slots(before, after))


def _of_transaction(old: Optional[Transaction], new: Optional[Transaction]) -> Iterator[Changed]:
    if new is None or (old is not None and _told_of(old) == _told_of(new)):
        return
    staged = phases.STAGED if new.kind == "update" else ""
    form = _BEGUN if new.phase == phases.STAGED != staged else _TEXTS.get(new.phase, "")
    text = form.format(kind=new.kind, what=new.version or "the system", slot=new.to_slot)
    is_bad = bool(new.reason)
    yield Changed(
        state=new.phase, slot=new.to_slot, version=new.version or "", txn=new.txn,
        text=f"{text}: {new.reason}" if is_bad else text, is_bad=is_bad,
    )  # fmt: skip


def _told_of(transaction: Transaction) -> Tuple[str, ...]:
    return (transaction.txn, transaction.kind, transaction.phase, transaction.reason)


def _of_slots(before: Record, after: Record) -> Iterator[Changed]:
    for slot in SLOT_NAMES:
        old, new = before.slots[slot], after.slots[slot]
        if (old.state, old.txn) == (new.state, new.txn):
            continue
        what = new.version or "the system"
        if new.state == "bad":
            text = f"slot {slot} is marked bad: {what} is refused unless --retry-failed is given"
            yield Changed("bad", slot, new.version or "", new.txn, text, is_bad=True)
        if new.state == "adopted" and old.state != "staging":  # else it was repaired
            text = f"{what} in slot {slot} is taken for good as it is"
            yield Changed("adopted", slot, new.version or "", new.txn, text, is_bad=False)
