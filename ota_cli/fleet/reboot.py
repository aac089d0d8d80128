"""Rebooting into what was armed, from below: an ECU goes down when all below it are back, healthy.

One that does not come back healthy ends it before the ECU that the update was begun on has gone
down: what is still armed is taken back, what waits for the others returns.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Tuple

from ..confirm import give_up, pending
from ..core import record as phases
from ..core.requests import AskReboot, compose_request
from ..errors import BootRefused, Busy, EcuFailed, EcusDiffer, Footprint, OtaError, UsageProblem
from ..events import Emit, Note
from ..host import store
from ..host.reboot import reboot_machine
from ..model import Device, Secondary
from ..trial import open_session
from . import failures
from .crew import side_by_side
from .decision import await_healthy, decide_jointly
from .disarm import disarm_below, disarm_here
from .link import Links, of_ecu
from .report import ids_of
from .tree import BUDGET_S, read_tree

#: How the session with an ECU that goes down may end.
_GOES_DOWN = ("ecu-lost", "ecu-silent")


def reboot_all(
    device: Device, txn: str, ecu_ids: Tuple[str, ...], own_is_armed: bool, emit: Emit
) -> None:
    """Reboots the ECUs `ecu_ids`, which `txn` armed, then this one; where it is not armed, it
    decides for them instead, if it is to.

    Raises EcuFailed where one did not come back healthy: then all have the old system or return
    to it; EcusDiffer where that is not certain.
    """
    try:
        reboot_below(device, AskReboot((device.ecu.ecu_id,), txn, ecu_ids), emit)
    except OtaError as why:
        raise _taken_back(device, txn, why, emit) from None
    if own_is_armed:
        reboot_armed(device, txn, emit)
        return
    joint = pending(store.load_record(device))
    if joint is not None:
        decide_jointly(device, joint, emit)


def reboot_named(device: Device, request: AskReboot, emit: Emit) -> bool:
    """Reboots those below that are named, then this ECU, if it is; whether it goes down now.

    Raises what `reboot_below` and `reboot_armed` raise.
    """
    own = device.ecu.ecu_id
    others = tuple(each for each in request.ecus if each != own)
    reboot_below(device, replace(request, above=(*request.above, own), ecus=others), emit)
    return own in request.ecus and reboot_armed(device, request.txn, emit)


def reboot_below(device: Device, request: AskReboot, emit: Emit) -> None:
    """Returns when all ECUs of `request` are back and healthy, or confirmed.

    `request.above` ends with this ECU. Raises EcuFailed where one refuses, TrialFailed where one
    falls back or does not become healthy within `fleet_deadline`.
    """
    if not request.ecus:
        return
    until = time.monotonic() + device.settings.fleet_deadline_s
    with Links(device) as links:
        jobs = [
            _Rebooting(links, each, replace(request, ecus=ecu_ids), until, emit).ask
            for each, ecu_ids in _by_secondary(device, request).items()
        ]
        failed = [each for each in side_by_side(jobs, links.abandon) if each is not None]
    if failed:
        raise EcuFailed("; ".join(each.message for each in failed), hint=failed[0].hint)
    await_healthy(device, request.txn, request.ecus, request.above, emit)


def reboot_armed(device: Device, txn: str, emit: Emit) -> bool:
    """Asks this machine to reboot into what `txn` armed; False where that runs already.

    Raises BootRefused where it is not armed any more.
    """
    with store.exclusive(device):
        session = open_session(device, emit)
        last = session.record.transaction
        is_known = last is not None and last.txn == txn
        runs = session.on_trial or (last is not None and last.phase == phases.COMMITTED)
        if is_known and runs:
            return False
        if session.armed is None or session.boot.txn != txn:
            raise BootRefused(
                "what this update armed is not armed any more",
                hint="run the same `ota update` again",
                slug="not-armed",
            )
    if not device.is_this_machine:
        raise UsageProblem("only this machine can be rebooted, not the device below --root")
    emit(Note("rebooting into the new system"))
    reboot_machine()
    return True


def _by_secondary(device: Device, request: AskReboot) -> Dict[Secondary, Tuple[str, ...]]:
    """Which of the ECUs are to be rebooted by each secondary: itself, and those below it."""
    below = {each.ecu_id: each for each in read_tree(device, BUDGET_S, request.above[:-1])}
    found: Dict[Secondary, Tuple[str, ...]] = {}
    for secondary in device.ecu.secondaries:
        there = ids_of((below[secondary.ecu_id],))
        named = tuple(each for each in request.ecus if each in there)
        if named:
            found[secondary] = named
    return found


@dataclass(frozen=True)
class _Rebooting:
    """One secondary, to be asked in a thread of its own."""

    links: Links
    secondary: Secondary
    request: AskReboot
    until: float
    emit: Emit

    def ask(self) -> Optional[OtaError]:
        """None once it goes down, or need not."""
        try:
            link = self.links.to(self.secondary)
            heard = of_ecu(self.secondary, self.emit)
            answer = link.ask(compose_request(self.request), heard, self.until)
        except OtaError as error:
            return None if error.slug in _GOES_DOWN else error
        return failures.told(self.secondary, answer) if answer.error is not None else None


def _taken_back(device: Device, txn: str, why: OtaError, emit: Emit) -> OtaError:
    error: OtaError = EcuFailed(
        f"{why.message}; all ECUs keep their old systems or return to them", hint=why.hint
    )
    problems: List[str] = []
    is_decided = False
    try:
        is_decided = give_up(device, txn, why.message, emit) is not None
        if is_decided:
            raise Busy("it was decided meanwhile that the new system stays")
        disarm_here(device, txn, emit)
    except OtaError as problem:
        problems.append(problem.message)
    if not is_decided:
        with Links(device) as links:
            problems += [each.why.message for each in disarm_below(device, links, txn, ())]
    if problems:
        error = EcusDiffer(
            f"{why.message}; and not all could be taken back: {'; '.join(problems)}",
            hint="`ota status` shows them all; `ota rollback --all` tries again",
        )
    error.footprint = Footprint.BOOT
    return error
