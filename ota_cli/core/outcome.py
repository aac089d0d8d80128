"""How the last update ended: the record (what was intended), the boot loader (what boots next)
and the running system compared. Pure.

`settle` finds out what happened while nobody watched; `verdict` says it in a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from ..model import BootState, SlotName
from . import record as phases
from .record import Record, Transaction

#: A trial that never reached user space is re-armed so often, then the slot is `bad`.
MAX_LOST_TRIALS = 3

_WHY_IT_FELL_BACK = {
    phases.ARMED: "the trial never reached user space, or found /boot too full to note it",
    phases.TRIAL: "the trial boot was not confirmed",
    phases.HEALTHY: "it was healthy, but not all ECUs of its update were",
}
_UNDER_WAY = tuple(_WHY_IT_FELL_BACK)


@dataclass(frozen=True)
class Verdict:
    """`code`: confirmed, trial, armed, fell_back, disagree or never_updated."""

    code: str
    text: str
    hint: str = ""


def on_trial(running: Optional[SlotName], trial: bool, boot: BootState) -> bool:
    """True while the running system was booted on trial and is not the default yet."""
    return trial and running is not None and boot.default != running


def settle(
    record: Record, boot: BootState, running: Optional[SlotName], trial: bool, now: str,
    booted: str,
) -> Record:  # fmt: skip
    """The record with the end of an armed transaction that the boot loader already decided.

    A trial that reached user space and yet is not running has failed: its image is remembered.
    One that never did may have been a power cut: the slot stays staged, up to three times. One
    that was healthy stays staged: it is other ECUs that were not. A slot that was known to be
    good stays so. Where the boot loader was never told, cut off before that, nothing was tried.
    What fell back did so at the latest when the running system was `booted`.
    """
    last = record.transaction
    if last is None or last.phase not in _UNDER_WAY:
        return record
    if running == last.to_slot and boot.default == last.to_slot:
        return committed(record, last, now)
    if on_trial(running, trial, boot) or boot.trial == last.to_slot or running is None:
        return record
    if last.phase == phases.ARMED and boot.txn != last.txn:
        return _never_armed(record, last, now)
    return _fell_back(record, last, booted)


def given_up(record: Record, txn: str) -> Record:
    """The record of a device whose deadline unit ended the trial of `txn`, `""` if it never did.

    Such a trial reached user space, whatever was recorded before. One that was healthy was only
    not confirmed together with others.
    """
    last = record.transaction
    if not txn or last is None or last.txn != txn:
        return record
    if last.phase not in (phases.ARMED, phases.TRIAL):
        return record
    reason = last.reason or "it was not confirmed before its deadline"
    return replace(record, transaction=replace(last, phase=phases.TRIAL, reason=reason))


def committed(record: Record, last: Transaction, now: str) -> Record:
    """The record once `last` is confirmed; where it decides for other ECUs, that is decided."""
    ended = replace(last, phase=phases.COMMITTED, ended=now, reason="")
    good = record.with_slot(last.to_slot, state="good", since=now).with_time_of(last.to_slot)
    confirmed = replace(good.without_failed(last.image_id), transaction=ended)
    joint = record.joint
    if joint is None or not record.is_joint or not joint.decides or joint.decided:
        return confirmed
    return replace(confirmed, joint=replace(joint, decided=now, untold=joint.ecu_ids))


def _never_armed(record: Record, last: Transaction, now: str) -> Record:
    if last.kind == "update":
        staged = replace(last, phase=phases.STAGED)
        return replace(record.with_slot(last.to_slot, state="staged"), transaction=staged)
    reason = "it was interrupted before the boot loader was told"
    return replace(
        record, transaction=replace(last, phase=phases.WITHDRAWN, ended=now, reason=reason)
    )


def _fell_back(record: Record, last: Transaction, when: str) -> Record:
    seen, was_healthy = last.phase == phases.TRIAL, last.phase == phases.HEALTHY
    attempts = last.attempts + (0 if was_healthy else 1)
    bad = seen or attempts >= MAX_LOST_TRIALS
    reason = last.reason or _WHY_IT_FELL_BACK[last.phase]
    when = max(when, last.started)  # of a container's host, or of a clock that was wrong
    ended = replace(last, phase=phases.FELL_BACK, ended=when, reason=reason, attempts=attempts)
    settled = replace(record, transaction=ended)
    if record.slots[last.to_slot].is_good:
        return settled
    settled = settled.with_slot(last.to_slot, state="bad" if bad else "staged")
    return settled.with_failed(last.image_id) if bad else settled


def verdict(
    record: Record,
    boot: Optional[BootState],
    running: Optional[SlotName],
    trial: bool,
    boot_id: str = "",
    has_others: bool = False,
) -> Verdict:
    """What a technician needs to know, for a settled `record`. `boot` None: not readable.
    `boot_id`: the name of this boot, if known. `has_others`: there are ECUs below, to be switched
    with this one."""
    if boot is None or running is None:
        return Verdict(
            "disagree", "The boot loader's settings or the running slot can not be read.",
            "run `ota setup` on a new device, `ota setup --repair` on this one otherwise",
        )  # fmt: skip
    last = record.transaction
    if on_trial(running, trial, boot) and last is not None and last.phase == phases.HEALTHY:
        return Verdict(
            "trial", f"{_named(last)} runs on trial in slot {running}, is healthy and waits for "
            "the other ECUs of its update.",
            "`ota commit` on the main ECU confirms all of them; a reboot returns to the old system",
        )  # fmt: skip
    if on_trial(running, trial, boot):
        return Verdict(
            "trial", f"{_named(last)} runs on trial in slot {running} and is not confirmed.",
            "`ota commit` confirms it; a reboot returns to the old system",
        )  # fmt: skip
    if boot.next is not None and not boot.slots[boot.next].ready:
        return _incomplete(boot.next, running)
    if boot.trial not in (None, running):
        return _armed(last, boot, boot_id)
    if boot.default != running:
        return _not_default(running, boot)
    if boot.next != running:
        what = f"slot {boot.next} boots next" if boot.next else "no slot would boot"
        return Verdict(
            "disagree", f"Slot {running} runs, but its boot files are not complete: {what}.",
            "`ota setup --repair` installs them anew",
        )  # fmt: skip
    return _at_rest(record, last, running, "ota activate --all" if has_others else "ota activate")


def _armed(last: Optional[Transaction], boot: BootState, boot_id: str) -> Verdict:
    """Another slot than the running one is to be tried."""
    if boot.next != boot.trial:
        return Verdict(
            "disagree",
            f"{_named(last)} is armed in slot {boot.trial}, but its boot files are not complete: "
            f"slot {boot.next or '?'} boots next.",
            "run the same `ota update` again, or `ota rollback`",
        )
    armed_in = last.armed_in if last else ""
    if armed_in and boot_id and armed_in != boot_id:
        return Verdict(
            "disagree", f"{_named(last)} is armed in slot {boot.trial}, but this boot did not try "
            "it: the boot loader was not asked, or could not write down that it tries it.",
            "`ota doctor` looks for the reason; `ota rollback` takes it back",
        )  # fmt: skip
    return Verdict(
        "armed", f"{_named(last)} in slot {boot.trial} is tried at the next boot.",
        "reboot to try it; `ota rollback` takes it back",
    )  # fmt: skip


def _incomplete(slot: SlotName, running: SlotName) -> Verdict:
    """A boot loader that does not go by what is complete boots `slot` next, which is not."""
    if slot == running:
        return Verdict(
            "disagree", f"Slot {slot} runs and boots next, but its boot files are not complete.",
            "`ota setup --repair` installs them anew",
        )  # fmt: skip
    return Verdict(
        "disagree", f"The boot loader boots slot {slot} next, but its boot files are not complete.",
        f"`ota switch-slot {running}` makes the running system what boots next",
    )  # fmt: skip


def _not_default(running: SlotName, boot: BootState) -> Verdict:
    """`running` came up in place of the default: that could not be loaded, or somebody chose."""
    default, mend = boot.default, "`ota commit` makes the running system the default"
    if default is not None and not boot.slots[default].ready:
        return Verdict(
            "disagree", f"Slot {default} is the boot loader's default, but its boot files are not "
            f"complete: slot {running} runs instead.",
            f"{mend}; then `ota verify --repair` or `ota update` mends slot {default}",
        )  # fmt: skip
    return Verdict(
        "disagree",
        f"Slot {running} runs, but slot {default or '?'} is the boot loader's default.",
        f"`ota doctor` tells whether that could be loaded; {mend}",
    )


def _at_rest(
    record: Record, last: Optional[Transaction], running: SlotName, activate: str
) -> Verdict:
    """Nothing is armed or on trial, and the default runs. `activate`: what arms what is staged."""
    if last is None:
        return Verdict("never_updated", f"Slot {running} runs; this device was never updated.")
    if last.phase == phases.FELL_BACK:
        slot = record.slots[last.to_slot]
        hint = f"`{activate}` tries it again" if slot.state == "staged" else ""
        hint = hint or ("`ota switch-slot` tries it again" if slot.is_good else "")
        return Verdict(
            "fell_back",
            f"{_named(last)} in slot {last.to_slot} fell back: {last.reason}. "
            f"Slot {running} runs as before.",
            hint or "`ota update` to another image; with `--retry-failed` this one is tried again",
        )
    if last.phase == phases.STAGED and last.kind != "update":
        return _confirmed(
            record, running, f"The {last.kind} to {_named(last)} was interrupted.",
            f"run `ota {last.kind}` again",
        )  # fmt: skip
    if last.phase == phases.STAGING and last.kind == phases.REPAIR:
        return _confirmed(
            record, running, f"The repair of slot {last.to_slot} was interrupted.",
            "run `ota verify --repair` again; finished work is kept",
        )  # fmt: skip
    if last.phase == phases.STAGING:
        return _confirmed(
            record, running, f"The update to {_named(last)} was interrupted.",
            "run the same `ota update` again; finished work is kept",
        )  # fmt: skip
    is_repaired = last.phase == phases.REPAIRED and record.slots[last.to_slot].state == "staged"
    if last.phase == phases.STAGED or is_repaired:
        return _confirmed(
            record, running, f"{_named(last)} is staged in slot {last.to_slot}.",
            f"`{activate}` arms it",
        )  # fmt: skip
    return _confirmed(record, running, "", "")


def _confirmed(record: Record, running: SlotName, more: str, hint: str) -> Verdict:
    version = record.slots[running].version
    what = f"{version} in slot {running}" if version else f"The system in slot {running}"
    known = record.slots[running].state == "good"
    text = f"{what} runs and is confirmed." if known else f"{what} runs."
    code = "confirmed" if known else "never_updated"
    return Verdict(code, f"{text} {more}".strip(), hint)


def _named(last: Optional[Transaction]) -> str:
    return (last.version if last else None) or "the new system"
