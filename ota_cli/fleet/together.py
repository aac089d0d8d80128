"""An update or switch of many ECUs: it happens on all of them, or on none.

    stage      every ECU below, in parallel with this one                        standby slots
    require    all are ready; one that is not ends it here, and none is switched
    permit     the ECU above gives the word; the main ECU gives it to itself
    arm below  each secondary arms what is below it, then itself                 boot orders there
    arm        this ECU, last                                                    boot order here

Where more than one ECU tries the new system, they are also confirmed together (`decision`).
Anything that fails from `arm below` on takes back what was armed, also on an ECU of which it is
not known whether it was: it is asked again and again, and named if that stays uncertain.
"""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Callable, Generic, Iterator, List, Optional, Sequence, Tuple, Type, TypeVar

from ..core.protocol import Object
from ..core.record import JointCommit
from ..core.secondaries import on_the_way
from ..errors import Busy, EcuFailed, EcusDiffer, Footprint, OtaError, SignalReceived, UsageProblem
from ..events import Emit, Ready
from ..host import store
from ..host.interrupts import deferred
from ..model import Device
from ..trial import Agreement, Switched, note_joint, open_session
from ..update import Updated
from .disarm import disarm_below
from .follower import Follower, Order
from .insist import Uncertain
from .link import Links
from .report import EcuUpdated

#: Asks whoever is above for the word to arm, and whether what is armed is confirmed jointly; is
#: told which ECUs are ready. Raises to refuse.
Permission = Callable[[Ready], bool]


Own = TypeVar("Own", Updated, Switched)


@dataclass(frozen=True)
class FleetSwitched(Generic[Own]):
    """What came of it. `own` None: this ECU was left out. `ecu_ids`: all that took part.

    `jointly`: those that are armed are confirmed together. `proxy`: what this ECU's own proxy has
    done; None without one.
    """

    own: Optional[Own]
    below: Tuple[EcuUpdated, ...]
    ecu_ids: Tuple[str, ...]
    jointly: bool = False
    proxy: Optional[Object] = None

    @property
    def armed_below(self) -> Tuple[str, ...]:
        return tuple(name for each in self.below for name in each.armed_ids)

    @property
    def is_any_armed(self) -> bool:
        return bool(self.armed_below) or (self.own is not None and self.own.armed)


def switch_together(
    device: Device,
    order: Order,
    own: Callable[[Agreement], Own],
    permission: Permission,
    emit: Emit,
) -> FleetSwitched[Own]:
    """Does `own` here and what `order` says on the ECUs below.

    Raises EcuFailed, naming each ECU that failed, when none was switched; EcusDiffer where that
    is not certain; and what `own` raises.
    """
    takes_part = order.ecus is None or device.ecu.ecu_id in order.ecus
    request = replace(order, above=(*order.above, device.ecu.ecu_id))
    with Links(device) as links, Crew(device, links, request, emit) as crew:
        mine = (device.ecu.ecu_id,) if takes_part else ()
        party = _Party(device, order, crew, mine, permission, emit)
        done = None
        if takes_part:
            done = own(party.agreement)
        elif not order.stage_only:
            party.arm_others()
        ecu_ids = party.ready(False).ecus
        return FleetSwitched(done, crew.switched(), ecu_ids, party.jointly)


@dataclass
class _Party:
    """All ECUs that take part, from here on down. `mine`: this one, unless it is left out."""

    device: Device
    order: Order
    crew: Crew
    mine: Tuple[str, ...]
    permission: Permission
    emit: Emit
    jointly: bool = False

    def ready(self, is_trial: bool) -> Ready:
        """Who waits for the word; `is_trial`: this ECU, if it takes part, would try it. Raises
        EcuFailed."""
        below = self.crew.ready()
        found = Ready((*self.mine, *below.ecus), (*(self.mine if is_trial else ()), *below.trying))
        _require_named(self.order, found.ecus, self.device)
        return found

    @contextmanager
    def agreement(self, is_trial: bool) -> Iterator[Optional[JointCommit]]:
        """All others are armed while the block arms this one."""
        decides = not self.order.above
        ready = self.ready(is_trial)
        self.jointly = self.permission(ready)
        others = tuple(each for each in ready.trying if each not in self.mine)
        joint = JointCommit(self.order.txn, decides, others if decides else (), takes_part=is_trial)
        with self.crew.armed(self.jointly):
            if decides and not is_trial:
                note_joint(self.device, joint if self.jointly else None)
            yield joint if self.jointly else None

    def arm_others(self) -> None:
        """For an ECU that is left out. Raises Busy where it would forget what it is to decide."""
        with ExitStack() as stack:
            if not self.order.above:
                stack.enter_context(store.exclusive(self.device))
                self._require_nothing_open()
            stack.enter_context(self.agreement(False))

    def _require_nothing_open(self) -> None:
        """An earlier joint commit is replaced only where all that it is about are tried anew."""
        joint = open_session(self.device, self.emit).record.open_joint
        if joint is None:
            return
        if joint.takes_part or set(joint.ecu_ids) - set(self.crew.ready().trying):
            raise Busy(
                "an earlier update of this and other ECUs is neither confirmed nor taken back",
                hint="reboot them, or `ota rollback --all` takes it back",
                slug="joint-open",
            )


class Crew:
    """The followers of all secondaries that may take part, while the block runs.

    One that fails does not stop the others from staging: what they fetched is kept for the next
    run. The end of the block lets go those that were not told to arm.
    """

    def __init__(self, device: Device, links: Links, request: Order, emit: Emit) -> None:
        self._device = device
        self._links = links
        self._request = request
        asked = on_the_way(device.ecu, request.ecus)
        self._followers = [Follower(links, each, request, emit) for each in asked]
        self._pool = ThreadPoolExecutor(max_workers=max(1, len(self._followers)))
        self._threads: List[Future[None]] = []

    def __enter__(self) -> Crew:
        try:
            with deferred():
                self._threads = [self._pool.submit(each.follow) for each in self._followers]
        except SignalReceived:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        for each in self._followers:
            each.let_go()
        if kind is not None:
            self._links.abandon()
        self._pool.shutdown(wait=True)
        for thread in self._threads:
            thread.result()  # a bug in a follower is one of ours

    def ready(self) -> Ready:
        """Which ECUs are ready, once all are. Raises EcuFailed."""
        failed = [e for e in (each.ready.exception() for each in self._followers) if e is not None]
        if failed:
            raise _none_switched(failed)
        found = [each.ready.result() for each in self._followers]
        return Ready(
            tuple(name for each in found for name in each.ecus),
            tuple(name for each in found for name in each.trying),
        )

    def switched(self) -> Tuple[EcuUpdated, ...]:
        """What came of each. Raises EcuFailed."""
        failed = [e for e in (each.switched.exception() for each in self._followers) if e]
        if failed:
            raise _none_switched(failed)
        return tuple(each.switched.result() for each in self._followers)

    @contextmanager
    def armed(self, jointly: bool) -> Iterator[None]:
        """All are armed while the block arms this ECU; if it fails, or one of them does, none is.

        `jointly`: none of them confirms itself. Raises EcuFailed, and EcusDiffer where it is not
        certain that none is.
        """
        for each in self._followers:
            each.tell_to_arm(jointly)
        is_done = False
        try:
            self.switched()
            with deferred():
                yield
                is_done = True
        except SignalReceived as received:
            if is_done:  # it came while this ECU was armed, and waited until it was
                received.footprint = Footprint.BOOT
            raise
        finally:
            if not is_done:
                self._take_back(sys.exc_info()[1])

    def _take_back(self, cause: Optional[BaseException]) -> None:
        """Disarms all that were told to arm, because of `cause`."""
        secondaries = [each.secondary for each in self._followers]
        uncertain = disarm_below(
            self._device, self._links, self._request.txn, self._request.above[:-1], secondaries
        )
        if uncertain:
            raise _differ(uncertain, cause)


def _require_named(order: Order, found: Sequence[str], device: Device) -> None:
    """On the main ECU: every ECU that was named, or is known to be there, is among `found`."""
    if order.above:
        return
    wanted = device.ecu.available_ecu_ids if order.ecus is None else order.ecus
    missing = [each for each in wanted if each not in found]
    if not missing:
        return
    if order.ecus is not None:
        raise UsageProblem(f"no ECU is called {missing[0]}", hint="`ota status` shows them all")
    raise EcuFailed(
        f"ECU {missing[0]} is in `available_ecu_ids`, but no ECU lists it: none was switched",
        hint="correct ecu_info.yml here, or `secondaries` of the ECU above it",
    )


def jointly_if_several(device: Device) -> Permission:
    """The permission of the ECU that it was begun on: nobody is above it."""
    return lambda ready: device.settings.require_all and len(ready.trying) > 1


def _none_switched(failed: Sequence[BaseException]) -> EcuFailed:
    told = [each for each in failed if isinstance(each, OtaError)]
    assert len(told) == len(failed)
    return EcuFailed(
        f"no ECU was switched: {'; '.join(each.message for each in told)}", hint=told[0].hint
    )


def _differ(uncertain: Sequence[Uncertain], cause: Optional[BaseException]) -> EcusDiffer:
    names = ", ".join(each.ecu_id for each in uncertain)
    reasons: List[str] = [each.why.message for each in uncertain]
    why = cause.message if isinstance(cause, OtaError) else "interrupted"
    error = EcusDiffer(
        f"{why}; and it is not known whether {names} would boot the new system, all other ECUs "
        f"stay with the old one: {'; '.join(reasons)}"
    )
    error.footprint = Footprint.BOOT
    return error
