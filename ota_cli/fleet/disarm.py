"""Taking back what one transaction armed, on this ECU and below. Idempotent."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence

from ..core import record as phases
from ..core.requests import AskDisarm
from ..errors import EcusDiffer
from ..events import Emit
from ..host import store
from ..model import Device, Secondary
from ..remember import remember
from ..trial import open_session, stay
from .insist import Uncertain, insist
from .link import Links


class Disarmed(NamedTuple):
    """`was_armed`: the next boot would have tried it. `returns_by_reboot`: it runs, healthy, and
    will never be confirmed."""

    was_armed: bool = False
    returns_by_reboot: bool = False


def disarm_here(device: Device, txn: str, emit: Emit) -> Disarmed:
    """The next boot does not try what `txn` armed.

    Once this returned, under the device's lock, an interrupted arming of `txn` can not happen
    any more: it would have needed the lock. What runs already will get no decision; one that is
    not healthy yet returns when its checks have told whether it is. Raises Busy where the new
    system runs already and confirms itself, EcusDiffer where it has.
    """
    with store.exclusive(device):
        session = open_session(device, emit)
        last = session.record.transaction
        if session.on_trial and last is not None and last.txn == txn:
            if not session.record.is_joint:
                session.require_confirmed()
            given_up = session.record.without_decision("the ECU above took it back")
            remember(device, session.record, given_up, emit)
            return Disarmed(returns_by_reboot=last.phase == phases.HEALTHY)
        if last is not None and last.txn == txn and last.phase == phases.COMMITTED:
            raise EcusDiffer(
                f"{last.version or 'the new system'} is confirmed already",
                hint="`ota rollback` on that ECU goes back",
            )
        if session.armed is None or session.boot.txn != txn:
            return Disarmed()
        stay(session, emit)
        return Disarmed(was_armed=True)


def disarm_below(
    device: Device,
    links: Links,
    txn: str,
    above: Sequence[str],
    secondaries: Optional[Sequence[Secondary]] = None,
) -> List[Uncertain]:
    """Takes back what `txn` armed on the secondaries, all by default, and below them.

    Those that could not be made to say so are returned.
    """
    chosen = device.ecu.secondaries if secondaries is None else secondaries
    _, uncertain = insist(links, AskDisarm((*above, device.ecu.ecu_id), txn), chosen)
    return uncertain
