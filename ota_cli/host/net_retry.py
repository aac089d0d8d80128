"""When a failed request is worth another try, and how long to wait for it.

Given up is on lack of progress, not on a count: a vehicle in a tunnel gets on with it, a server
that is gone ends the update (FIELD-LESSONS 57, 58). Until anything at all was received a few
quick tries are enough: then it is more likely a wrong address than a tunnel.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from dataclasses import dataclass
from typing import Optional

from ..errors import OtaError, Unreachable

FIRST_TRIES = 3
MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 300.0
#: Tries of one file whose content is wrong, or that ends too early at the same byte.
WRONG_TRIES = 3


class Again(Exception):
    """A request failed in a way that may pass. `failure`: what to raise in the end.

    `wrong`: the content was not the wanted one. `cut_short`: the body ended too early.
    """

    def __init__(
        self,
        failure: OtaError,
        wait_s: float = 0.0,
        *,
        wrong: bool = False,
        cut_short: bool = False,
    ) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.wait_s = wait_s
        self.wrong = wrong
        self.cut_short = cut_short


@dataclass
class Liveness:
    """When the whole fetcher last received a byte; shared by its threads."""

    last: float
    received: bool = False

    def saw(self, count: int) -> None:
        """`count` bytes arrived."""
        if count:
            self.last = time.monotonic()
            self.received = True


class Retry:
    """The tries of one file."""

    def __init__(
        self, liveness: Liveness, first_backoff_s: float, patience_s: float, stop: threading.Event
    ) -> None:
        self._liveness = liveness
        self._backoff_s = first_backoff_s
        self._patience_s = patience_s
        self._stop = stop
        self._tries = 0
        self._fed = 0
        self.wrong = 0

    def after(self, again: Again, fed: int = 0) -> None:
        """Waits until the next try; raises the failure when there is none.

        `fed`: bytes of the body that came. A body that ends at one and the same byte again is
        wrong on the server; one that gets further was cut by the network.
        """
        self._tries += 1
        self.wrong += again.wrong or (again.cut_short and fed <= self._fed)
        self._fed = max(self._fed, fed)
        if self.wrong >= WRONG_TRIES or self._is_hopeless():
            raise again.failure
        pause = self._backoff_s * (0.5 + random.random())  # noqa: S311 (jitter, not a secret)
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)
        if self._stop.wait(max(pause, again.wait_s)):
            raise again.failure

    def _is_hopeless(self) -> bool:
        if not self._liveness.received:
            return self._tries >= FIRST_TRIES
        return time.monotonic() - self._liveness.last > self._patience_s


def retry_after_s(header: Optional[str], now: float) -> float:
    """Seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3), bounded; 0 without."""
    if not header:
        return 0.0
    if header.strip().isdigit():
        return min(float(header), MAX_RETRY_AFTER_S)
    try:
        date = email.utils.parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return 0.0
    return min(max(date.timestamp() - now, 0.0), MAX_RETRY_AFTER_S)


def unreachable(host: str, why: str) -> Unreachable:
    """The failure of a server that can not be talked to."""
    return Unreachable(
        f"{host} can not be reached: {why}",
        hint="check the network, the host name and the port; then run this again",
    )
