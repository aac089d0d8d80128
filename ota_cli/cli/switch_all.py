"""`activate`, `rollback` and `switch-slot` with `--all` or `--ecu`: on many ECUs, or on none."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional, Tuple

import click

from ..errors import UsageProblem
from ..model import Device, SlotName
from .options import Call, Result
from .show import Document
from .show_update import fleet_keys

if TYPE_CHECKING:
    from ..fleet.report import EcuUpdated
    from ..fleet.together import FleetSwitched
    from ..trial import Switched


class Chosen(NamedTuple):
    """Which ECUs a verb is for; `ecus` None: all."""

    ecus: Optional[Tuple[str, ...]]


def ecu_options(verb: Callable[..., Result]) -> Callable[..., Result]:
    """Adds `--all` and `--ecu` as `everybody` and `ecus`."""
    everybody = click.option(
        "--all", "everybody", is_flag=True, help="On this ECU and all below it, or on none."
    )
    some = click.option(
        "--ecu", "ecus", multiple=True, metavar="ID", help="On this ECU only; repeatable."
    )
    return everybody(some(verb))


def chosen(everybody: bool, ecus: Tuple[str, ...]) -> Optional[Chosen]:
    """None: this ECU alone. Raises UsageProblem."""
    if everybody and ecus:
        raise UsageProblem("--all and --ecu exclude each other")
    if everybody:
        return Chosen(None)
    return Chosen(ecus) if ecus else None


def switch_all(
    call: Call, device: Device, kind: str, who: Chosen,
    slot: Optional[SlotName] = None, trust_record: bool = False,
) -> Result:  # fmt: skip
    """Runs the verb `kind` on all ECUs that are chosen; none boots another system if one fails."""
    from ..core.requests import AskSwitch
    from ..fleet.switch import own_switch, staged_here
    from ..fleet.together import jointly_if_several, switch_together

    takes_part = who.ecus is None or device.ecu.ecu_id in who.ecus
    staged = staged_here(device) if kind == "activate" and takes_part else None
    order = AskSwitch(
        above=(), txn=uuid.uuid4().hex[:12], kind=kind, ecus=who.ecus, slot=slot,
        staged=staged.txn if staged else "", version=staged.version if staged else None,
        trust_record=trust_record,
    )  # fmt: skip
    own = own_switch(device, order, call.emit)
    done = switch_together(device, order, own, jointly_if_several(device), call.emit)
    return Result(document=switched_document(done), lines=tuple(_lines(device, done)))


def take_back_all(call: Call, device: Device, who: Chosen, txn: str) -> Optional[Switched]:
    """Takes back what `txn` armed on any ECU. Raises UsageProblem where only some are named."""
    from ..fleet.switch import take_back

    if who.ecus is not None:
        raise UsageProblem(
            "an update of several ECUs is taken back on all of them", hint="use --all"
        )
    return take_back(device, txn, call.emit)


def switched_document(done: FleetSwitched[Switched]) -> Document:
    """The `result` of a verb that switched many ECUs; `fleet.report` reads it."""
    own: Document = {"slot": None, "version": None}
    if done.own is not None:
        own = {
            "done": done.own.done, "slot": done.own.slot, "version": done.own.version,
            "armed": done.own.armed,
        }  # fmt: skip
    return {**own, **fleet_keys(done)}


def _lines(device: Device, done: FleetSwitched[Switched]) -> List[str]:
    lines = [line for each in done.below for line in _lines_below(each)]
    if done.own is not None:
        lines.append(_line(device.ecu.ecu_id, done.own.version, done.own.slot, done.own.armed))
    if done.is_any_armed:
        lines.append("Reboot the ECUs to try it; `ota rollback --all` takes it back until then.")
    return lines


def _lines_below(ecu: EcuUpdated) -> List[str]:
    below = [line for each in ecu.below for line in _lines_below(each)]
    if ecu.slot is None:
        return below
    return [*below, _line(ecu.ecu_id, ecu.version, ecu.slot, ecu.armed)]


def _line(ecu_id: str, version: Optional[str], slot: SlotName, armed: bool) -> str:
    what = f"{version or 'the system'} in slot {slot}"
    if armed:
        return f"{ecu_id}: {what} boots next, on trial."
    return f"{ecu_id}: {what} runs and boots next."
