"""The decisions all back-ends share: from what boots now to what shall boot. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple

from ..core.grubenv import REPAIR_HINT, BootVariables
from ..errors import BootRefused
from ..model import SLOT_NAMES, Bootable, BootState, SlotName, other_slot


def disarmed(state: BootState) -> BootVariables:
    """An ordinary boot of the default. Raises BootRefused when there is no default."""
    if state.default is None:
        raise BootRefused(
            "the boot loader has no default slot", hint=REPAIR_HINT, slug="no-default"
        )
    return BootVariables(state.default, None, good_slots(state))


def armed(state: BootState, bootable: Bootable) -> BootVariables:
    """One trial of `bootable`. Raises BootRefused when its boot files are not complete."""
    slot = bootable.slot
    _require_ready(state, slot, "", "run `ota update` again")
    return replace(disarmed(state), trial=slot, txn=bootable.txn)


def committed(state: BootState, slot: SlotName) -> BootVariables:
    """`slot` is good and the default. Raises BootRefused when it could not boot again."""
    _require_ready(state, slot, ", so it can not become the default", REPAIR_HINT)
    return BootVariables(slot, None, _good_with(state, slot))


def regained(state: BootState, slot: SlotName) -> BootVariables:
    """`slot` is good, all else as it is. Raises BootRefused when it could not boot, or when
    there is no default."""
    _require_ready(state, slot, ", so it is not known to work", "run `ota update` again")
    good = _good_with(state, slot)
    return replace(disarmed(state), trial=state.trial, good=good, txn=state.txn)


def withdrawn(state: BootState, slot: SlotName) -> BootVariables:
    """Neither default, trial nor good: `slot`. Raises BootRefused when nothing else boots."""
    default = other_slot(slot)
    other = state.slots[default]
    if not other.ready or not (other.good or state.default == default):
        raise BootRefused(
            f"slot {default} would not boot, so slot {slot} can not be replaced",
            hint="`ota setup --repair` mends the running slot's boot files; a slot on trial "
            "becomes known to work by `ota commit`",
            slug="only-bootable-slot",
        )
    good = tuple(each for each in good_slots(state) if each != slot)
    return BootVariables(default, None, good)


def good_slots(state: BootState) -> Tuple[SlotName, ...]:
    """The slots known to work."""
    return tuple(slot for slot in SLOT_NAMES if state.slots[slot].good)


def _require_ready(state: BootState, slot: SlotName, so: str, hint: str) -> None:
    if not state.slots[slot].ready:
        raise BootRefused(
            f"slot {slot} has no complete boot files{so}", hint=hint, slug="not-ready"
        )


def _good_with(state: BootState, slot: SlotName) -> Tuple[SlotName, ...]:
    return tuple(each for each in SLOT_NAMES if each == slot or state.slots[each].good)
