"""One ECU below on its way through an update: staged, then armed or let go.

    staging ──> ready ──(arm)──> armed
       │          └─(let go)──> staged only
       └──> failed

Its session stays open all the time: should this ECU die, so does the work there.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from typing import Optional, Union

from ..core.protocol import Answer, BadLine
from ..core.requests import AskSwitch, AskUpdate, Go, compose_go, compose_request
from ..errors import OtaError
from ..events import Emit, Note, OfEcu, Ready, Warned
from ..model import Secondary
from . import failures
from .link import Link, Links, Session, of_ecu
from .report import EcuUpdated, parse_updated

#: What is done on many ECUs at once: all of them switch, or none.
Order = Union[AskUpdate, AskSwitch]
#: How long an `ota` that is still ending there, after a broken connection, is waited for.
_BUSY_S = 60.0
_BUSY_PAUSE_S = 2.0


class Follower:
    """Follows `secondary` from the thread that calls `follow`; the rest is for other threads.

    `ready`: which ECUs wait for the word, or why not. `switched`: what came of one that was
    told to arm, or that was only to stage; or why that is not known.
    """

    def __init__(self, links: Links, secondary: Secondary, request: Order, emit: Emit) -> None:
        self.secondary = secondary
        self.ready: Future[Ready] = Future()
        self.switched: Future[EcuUpdated] = Future()
        self._links = links
        self._request = request
        self._emit = emit
        self._heard = of_ecu(secondary, emit)
        self._word: queue.SimpleQueue[Optional[Go]] = queue.SimpleQueue()
        self._was_let_go = threading.Event()

    def tell_to_arm(self, jointly: bool) -> None:
        """The word, for one that is ready."""
        self._word.put(Go(self._request.txn, jointly))

    def let_go(self) -> None:
        """No word will come: what is staged stays so."""
        self._was_let_go.set()
        self._word.put(None)

    def follow(self) -> None:
        """Returns when all is known of this ECU; failures are in the futures."""
        try:
            self._follow(self._links.to(self.secondary))
        except OtaError as error:
            self._warn(error)
            self._settle(error)
        finally:
            self._settle(failures.lost(self.secondary, 0, ""))

    def _warn(self, error: OtaError) -> None:
        """Others may stage for long still: whoever waits may want to mend this one at once."""
        if not self.ready.done() and not self._was_let_go.is_set():
            warning = Warned(f"no ECU will be switched: {error.message}")
            self._emit(OfEcu(self.secondary.ecu_id, warning))

    def _settle(self, error: OtaError) -> None:
        for future in (self.ready, self.switched):
            if not future.done():
                future.set_exception(error)

    def _follow(self, link: Link) -> None:
        request, give_up = self._request, time.monotonic() + _BUSY_S
        while True:
            with link.session(compose_request(request), math.inf) as session:
                said = self._until_ready(session)
                if isinstance(said, Ready):
                    self.ready.set_result(said)
                    self._emit(OfEcu(self.secondary.ecu_id, Note("ready to be switched")))
                    go = self._word.get()
                    if go is not None:
                        self._arm(session, go)
                    return
            older = _for_older(request) if _failed(said, "request") else None
            if older is not None:
                self._heard(Warned("copies are not read back there: its ota is older"))
                request = older
                continue
            if not _failed(said, "locked") or time.monotonic() > give_up:
                self._take_answer(said)
                return
            if self._was_let_go.wait(_BUSY_PAUSE_S):
                return

    def _until_ready(self, session: Session) -> Union[Ready, Answer]:
        while True:
            said = session.next()
            if isinstance(said, (Ready, Answer)):
                return said
            self._heard(said)

    def _arm(self, session: Session, go: Go) -> None:
        session.say(compose_go(go))
        while True:
            said = session.next()
            if isinstance(said, Answer):
                self._take_answer(said)
                return
            self._heard(said)

    def _take_answer(self, answer: Answer) -> None:
        if answer.error is not None:
            raise failures.told(self.secondary, answer)
        try:
            found = parse_updated(answer.result, self.secondary.ecu_id)
        except BadLine as error:
            raise failures.nonsense(self.secondary, str(error)) from None
        if not self.ready.done():
            self.ready.set_result(Ready(found.ecu_ids, ()))
        self.switched.set_result(found)


def _for_older(request: Order) -> Optional[Order]:
    """What an `ota` that knows less is asked instead; None where `request` has nothing new."""
    if isinstance(request, AskUpdate) and request.verify_writes:
        return replace(request, verify_writes=False)
    return None


def _failed(said: Union[Ready, Answer], slug: str) -> bool:
    """Whether it is that failure."""
    return isinstance(said, Answer) and said.error is not None and said.error.slug == slug
