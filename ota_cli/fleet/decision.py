"""One decision for all ECUs that try a new system: they keep it, or return.

    wait      until each is healthy: it runs the new system and has passed its checks
    decide    by confirming this ECU, see `confirm`
    tell      each to confirm itself, again and again until it has said that it did

One that falls back, or does not become healthy in time, ends it before anybody decides: the
others are told to return as well; who can not be told does so at its own deadline. This holds
for the ECU that the update was begun on; those between it and others below pass the word on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..confirm import commit_decided, decide, give_up, note_told
from ..core import record as phases
from ..core.protocol import BadLine, mapping, text, texts
from ..core.record import JointCommit
from ..core.requests import AskCommit
from ..core.secondaries import on_the_way
from ..core.text import printable
from ..errors import EcusDiffer, TrialFailed
from ..events import Emit, Note, OfEcu, Warned
from ..model import Device
from .disarm import disarm_below
from .insist import insist
from .link import Links
from .report import Ecu, ids_of
from .tree import BUDGET_S, read_tree

_PAUSE_S = 3.0


@dataclass(frozen=True)
class Standing:
    """How far an ECU is. `code`: `healthy`, `waiting` or `lost`, which can not become healthy."""

    code: str
    text: str


def decide_jointly(device: Device, joint: JointCommit, emit: Emit) -> None:
    """All ECUs of `joint`, and this one if it takes part, are confirmed when this returns.

    Raises TrialFailed, before anything was decided, where one is lost or they are not all healthy
    within `fleet_deadline`; EcusDiffer, naming them, where some do not say that they confirmed.
    """
    if joint.decided is None:
        joint = _decided(device, joint, emit)
    _tell(device, joint, emit)


def _decided(device: Device, joint: JointCommit, emit: Emit) -> JointCommit:
    try:
        await_healthy(device, joint.txn, joint.ecu_ids, (device.ecu.ecu_id,), emit)
    except TrialFailed as why:
        decided = give_up(device, joint.txn, why.message, emit)
        if decided is not None:  # by another `ota commit`, before this one saw that
            return decided
        _return_below(device, joint.txn, emit)
        raise
    emit(Note("all ECUs are healthy: the new system stays"))
    return decide(device, joint, emit)


class Told(NamedTuple):
    """How the word to confirm was taken. `refused`: ECUs that never will, and why."""

    confirmed: Tuple[str, ...]
    refused: Mapping[str, str]


def commit_below(device: Device, request: AskCommit, emit: Emit) -> Told:
    """Confirms this ECU, if it is named, and those below.

    One that could not be asked is not among them. Raises what keeps this ECU from it for now.
    """
    own, confirmed, refused = device.ecu.ecu_id, [], {}
    if own in request.ecus:
        try:
            commit_decided(device, request.txn, emit)
            confirmed.append(own)
        except TrialFailed as error:
            refused[own] = error.message
    others = tuple(each for each in request.ecus if each != own)
    below = replace(request, above=(*request.above, own), ecus=others)
    told, _ = _insist_on_commit(device, below)
    return Told((*confirmed, *told.confirmed), {**refused, **told.refused})


def await_healthy(
    device: Device, txn: str, ecu_ids: Sequence[str], above: Tuple[str, ...], emit: Emit
) -> None:
    """Returns when all these ECUs below are healthy, or confirmed. `above` ends with this one.

    Raises TrialFailed, naming them, where one is lost or `fleet_deadline` is over.
    """
    over = time.monotonic() + device.settings.fleet_deadline_s
    before: Dict[str, Standing] = {}
    while True:
        ecus = ids_of(read_tree(device, BUDGET_S, above[:-1]))
        found = {each: standing(ecus.get(each), txn) for each in ecu_ids}
        for ecu_id, now in found.items():
            if before.get(ecu_id) != now:
                emit(OfEcu(ecu_id, Note(now.text)))
        before = found
        if all(each.code == "healthy" for each in found.values()):
            return
        _require_hope(found, time.monotonic() > over)
        time.sleep(_PAUSE_S)


def standing(ecu: Optional[Ecu], txn: str) -> Standing:
    """What the status of an ECU says about transaction `txn`. Pure."""
    if ecu is None or ecu.status is None:
        why = ecu.trouble.message if ecu is not None and ecu.trouble else "no ECU lists it"
        return Standing("waiting", why)
    status, last = ecu.status, ecu.status.last_update
    if last is None or last.txn != txn:
        return Standing("lost", f"another update or switch was begun: {status.verdict.text}")
    if last.phase == phases.HEALTHY and last.reason:
        return Standing("lost", last.reason)
    if last.phase in (phases.HEALTHY, phases.COMMITTED):
        return Standing("healthy", "healthy")
    if last.phase == phases.ARMED and status.verdict.code == "armed":
        return Standing("waiting", "not rebooted yet")
    if last.phase == phases.ARMED and status.verdict.code == "disagree":
        # it was rebooted and did not try it; where that can not be read, it may have
        return Standing("waiting" if status.boot_problem else "lost", status.verdict.text)
    if last.phase in (phases.ARMED, phases.TRIAL):
        return Standing("waiting", "on trial, its health checks have not passed yet")
    return Standing("lost", status.verdict.text)


def _require_hope(found: Mapping[str, Standing], is_over: bool) -> None:
    blamed = [each for each, now in found.items() if now.code == "lost"]
    if is_over and not blamed:
        blamed = [each for each, now in found.items() if now.code == "waiting"]
    if not blamed:
        return
    told = "; ".join(f"ECU {each}: {found[each].text}" for each in blamed)
    raise TrialFailed(
        f"not all ECUs are healthy: {told}",
        hint="`ota status` shows them all; each returns by a reboot, at its deadline at the latest",
        slug="not-all-healthy",
    )


def _return_below(device: Device, txn: str, emit: Emit) -> None:
    with Links(device) as links:
        for each in disarm_below(device, links, txn, ()):
            emit(Warned(f"it returns at its deadline only: {each.why.message}"))


def _tell(device: Device, joint: JointCommit, emit: Emit) -> None:
    request = AskCommit((device.ecu.ecu_id,), joint.txn, joint.untold)
    told, problems = _insist_on_commit(device, request)
    for ecu_id in told.confirmed:
        emit(OfEcu(ecu_id, Note("confirmed")))
    note_told(device, joint.txn, (*told.confirmed, *told.refused))
    missing = [each for each in joint.untold if each not in (*told.confirmed, *told.refused)]
    reasons = [f"ECU {each}: {why}" for each, why in told.refused.items()]
    if missing:
        reasons += problems or [f"nobody answers for {', '.join(missing)}"]
    if reasons:
        raise EcusDiffer(
            f"the new system is decided on, but not confirmed on all ECUs: {'; '.join(reasons)}",
            hint="`ota commit` here tells those again that did not answer; one that has returned "
            "to its old system needs the same `ota update` again",
        )


def _insist_on_commit(device: Device, request: AskCommit) -> Tuple[Told, List[str]]:
    """How it was taken, and why some did not answer."""
    with Links(device) as links:
        answers, uncertain = insist(links, request, on_the_way(device.ecu, request.ecus))
    problems = [each.why.message for each in uncertain]
    confirmed: List[str] = []
    refused: Dict[str, str] = {}
    for answer in answers:
        try:
            confirmed += [printable(each) for each in texts(answer.result, "confirmed")]
            whys = mapping(answer.result, "refused")
            refused.update({printable(each): text(whys, each) for each in whys})
        except BadLine as error:
            problems.append(f"an answer can not be read: {error}")
    return Told(tuple(confirmed), refused), problems
