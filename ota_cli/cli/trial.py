"""`ota activate`, `commit`, `rollback` and `switch-slot`: what follows an update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence, Tuple, Union

import click

from ..events import Note
from ..model import Device, SlotName
from ..probe import probe
from .options import Call, Result, command
from .switch_all import chosen, ecu_options, switch_all, take_back_all

if TYPE_CHECKING:
    from ..confirm import Committed, Healthy
    from ..trial import Switched


@command("activate")
@ecu_options
def activate(call: Call, everybody: bool, ecus: Tuple[str, ...]) -> Result:
    """Boot what `ota update --stage-only` prepared; it is hashed once more first."""
    from ..trial import activate as story

    device, who = probe(call.root), chosen(everybody, ecus)
    if who is not None:
        return switch_all(call, device, "activate", who)
    armed = story(device, call.emit)
    return Result(
        document={"slot": armed.slot, "version": armed.version},
        lines=(f"{_named(armed.version)} in slot {armed.slot} boots next, on trial.",),
    )


@command("commit")
def commit(call: Call) -> Result:
    """Confirm the running trial boot, after the health checks in /etc/ota/health.d.

    An update of several ECUs is confirmed on all of them or on none: on the ECU it was begun on,
    this waits until all are healthy; on the others it only notes that this one is.
    """
    from ..confirm import commit as story
    from ..confirm import pending
    from ..host.store import load_record

    device = probe(call.root)
    done = story(device, call.emit)
    joint = pending(load_record(device))
    if joint is not None:
        from ..fleet.decision import decide_jointly

        decide_jointly(device, joint, call.emit)
    return _commit_result(done, joint.ecu_ids if joint else ())


def _commit_result(done: Union[Committed, Healthy], others: Sequence[str]) -> Result:
    """`others`: ECUs that were confirmed with this one."""
    checks = [
        {"name": check.name, "passed": not check.why, "why": check.why, "output": check.output}
        for check in done.health.checks
    ]
    with_checks = f" after {len(checks)} health checks" if checks else " without health checks"
    what = f"{_named(done.version)} in slot {done.slot}"
    line = f"{what} is confirmed{with_checks}."
    if not done.was_trial:
        line = f"{what} is confirmed already{'.' if others else ': nothing to do.'}"
    is_confirmed = bool(others) or done.is_default
    if not is_confirmed:
        line = f"{what} is healthy{with_checks}; the ECU above confirms it when all are."
    return Result(
        document={
            "slot": done.slot, "version": done.version, "was_trial": done.was_trial,
            "health": checks, "confirmed": is_confirmed, "ecu_ids": list(others),
        },
        lines=(line, *([f"Confirmed with it: {', '.join(others)}."] if others else ())),
    )  # fmt: skip


@command("rollback")
@ecu_options
def rollback(call: Call, everybody: bool, ecus: Tuple[str, ...]) -> Result:
    """Take back what is armed; else go back to the previous good slot."""
    from ..trial import rollback as story

    device, who = probe(call.root), chosen(everybody, ecus)
    if who is None:
        return _rolled_back(call, device, story(device, call.emit))
    from ..fleet.switch import begun

    txn = begun(device)
    if txn is None:
        return switch_all(call, device, "rollback", who)
    own = take_back_all(call, device, who, txn)
    if own is None:
        lines = ("What was armed or on trial on the ECUs below is taken back.",)
        return Result(document={"done": "nothing"}, lines=lines)
    return _rolled_back(call, device, own)


def _rolled_back(call: Call, device: Device, done: Switched) -> Result:
    from ..host.reboot import reboot_machine

    what = _named(done.version)
    lines = {
        "armed": f"{what} in slot {done.slot} boots next, on trial. Reboot to go back.",
        "reboot": f"A reboot returns to {what} in slot {done.slot}.",
    }
    if done.done == "reboot" and device.is_this_machine:
        call.emit(Note("rebooting into the old system"))
        reboot_machine()
    return Result(
        document={"done": done.done, "slot": done.slot, "version": done.version},
        lines=(lines.get(done.done) or _stayed(done),),
    )


@command("switch-slot")
@click.argument("slot", type=click.Choice(["a", "b"]), required=False)
@click.option("--trust-record", is_flag=True, help="Do not hash the slot again first.")
@ecu_options
def switch_slot(
    call: Call, slot: Optional[SlotName], trust_record: bool, everybody: bool,
    ecus: Tuple[str, ...],
) -> Result:  # fmt: skip
    """Boot the other slot (or SLOT) next, if it holds a known good system."""
    from ..trial import switch_slot as story

    device, who = probe(call.root), chosen(everybody, ecus)
    if who is not None:
        return switch_all(call, device, "switch-slot", who, slot, trust_record)
    done = story(device, slot, trust_record, call.emit)
    trial = f"{_named(done.version)} in slot {done.slot} boots next, on trial."
    return Result(
        document={
            "done": done.done, "slot": done.slot, "version": done.version, "armed": done.armed,
        },
        lines=(trial if done.armed else _stayed(done),),
    )  # fmt: skip


def _stayed(done: Switched) -> str:
    if done.done == "disarmed":
        return f"Disarmed: slot {done.slot} ({_named(done.version)}) boots next, as before."
    return f"Slot {done.slot} runs and boots next: nothing to do."


def _named(version: Optional[str]) -> str:
    return version or "The system"
