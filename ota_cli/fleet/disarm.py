"""Taking back what one transaction armed, on this ECU and below. Idempotent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Tuple

from ..core.requests import AskDisarm, compose_request
from ..errors import OtaError, Unreachable
from ..events import Emit, silent
from ..host import store
from ..model import Device, Secondary
from ..trial import open_session, stay
from . import failures
from .crew import side_by_side
from .link import Links

#: How long an ECU is asked again: its old session, cut off, takes this long to end.
_PERSIST_S = 60.0
_PAUSE_S = 2.0


@dataclass(frozen=True)
class Uncertain:
    """It is not known whether this ECU would boot the new system: `why` it did not say."""

    ecu_id: str
    why: OtaError


def disarm_here(device: Device, txn: str, emit: Emit) -> bool:
    """The next boot does not try what `txn` armed; True where it would have.

    Once this returned, under the device's lock, an interrupted arming of `txn` can not happen
    any more: it would have needed the lock. Raises Busy where the new system runs already.
    """
    with store.exclusive(device):
        session = open_session(device, emit)
        last = session.record.transaction
        if session.on_trial and last is not None and last.txn == txn:
            session.require_confirmed()
        if session.boot.trial is None or session.boot.txn != txn:
            return False
        stay(session, emit)
        return True


def disarm_below(
    device: Device,
    links: Links,
    txn: str,
    above: Sequence[str],
    secondaries: Optional[Sequence[Secondary]] = None,
) -> Tuple[Uncertain, ...]:
    """Takes back what `txn` armed on the secondaries, all by default, and below them.

    Those that could not be made to say so within a minute are returned.
    """
    request = AskDisarm((*above, device.ecu.ecu_id), txn)
    chosen = device.ecu.secondaries if secondaries is None else secondaries
    jobs: List[Callable[[], Optional[Uncertain]]] = [
        _Disarming(links, each, request).persist for each in chosen
    ]
    found = side_by_side(jobs, links.abandon)
    return tuple(each for each in found if each is not None)


@dataclass(frozen=True)
class _Disarming:
    """One secondary to be disarmed, in a thread of its own."""

    links: Links
    secondary: Secondary
    request: AskDisarm

    def persist(self) -> Optional[Uncertain]:
        """None once it is disarmed."""
        until = time.monotonic() + _PERSIST_S
        while True:
            try:
                self._ask(until)
                return None
            except OtaError as error:
                if not _may_pass(error) or time.monotonic() + _PAUSE_S > until:
                    return Uncertain(self.secondary.ecu_id, error)
            time.sleep(_PAUSE_S)

    def _ask(self, until: float) -> None:
        link = self.links.to(self.secondary)
        answer = link.ask(compose_request(self.request), silent, until)
        if answer.error is not None:
            raise failures.told(self.secondary, answer)


def _may_pass(error: OtaError) -> bool:
    """Whether the same question may be answered a little later."""
    return error.exit_code == Unreachable.exit_code or error.slug == "locked"
