"""When a failed request is worth another try, and how long to wait for it.

What ends the tries is lack of progress, not a count: a vehicle in a tunnel gets on with it, a
server that is gone ends the update (FIELD-LESSONS 57 to 61). Two things are counted all the
same, because bytes keep arriving with them: content that is wrong, and a body that is cut again
before it got further. And a server that never answered at all gets a few tries only: that is a
wrong address more often than a tunnel, and nothing is lost yet. Bytes that drip so slowly that
the image would never be whole are no progress either: a server could hold a device for ever.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from typing import Optional

from ..errors import OtaError, Unreachable

FIRST_CONTACT_TRIES = 5
WRONG_TRIES = 3
STUCK_TRIES = 5
MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 300.0
#: Bytes per second of all downloads together; less, for as long as patience lasts, is a failure.
SLOWEST_RATE = 16.0
#: So many reads in a row, of all connections, may bring nothing of a file: heads of answers.
FRUITLESS_READS = 100


class Again(Exception):
    """A try failed in a way that may pass.

    `failure`: what to raise in the end. `wait_s`: how long the server asks to wait. `wrong`:
    a whole body came, but not the wanted one.
    """

    def __init__(self, failure: OtaError, *, wait_s: float = 0.0, wrong: bool = False) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.wait_s = wait_s
        self.wrong = wrong


class Liveness:
    """Whether the server ever answered and how its bytes come, over all threads.

    `patience_s`: how long less than `slowest_rate` bytes per second may come; only the time that
    something waits for the server is counted, over all requests, however they end.
    """

    def __init__(self, patience_s: float, slowest_rate: float = SLOWEST_RATE) -> None:
        self.answered = False
        self.last_byte_s = float("-inf")
        self.patience_s = patience_s
        self._worth_bytes = patience_s * slowest_rate
        self._reads = 0
        self._fresh_bytes = 0
        self._waited_s = 0.0
        self._counted_s = float("-inf")

    def saw_answer(self) -> None:
        """The server answered something."""
        self.answered = True

    def saw_bytes(self, count: int) -> None:
        """`count` bytes of a file arrived just now. Raises Unreachable when all is too little."""
        self.last_byte_s = time.monotonic()
        self._fresh_bytes += count
        self._reads = 0
        if self._fresh_bytes >= self._worth_bytes:
            self._fresh_bytes, self._waited_s = 0, 0.0
        self._check()

    def reads(self) -> None:
        """More is asked of an answer. Raises Unreachable where nobody gets anything of it."""
        self._reads += 1
        if self._reads > FRUITLESS_READS:
            self._check()

    def waited(self, began_s: float, at_most_s: float) -> None:
        """A wait for the server, which began at `began_s`, ends; several at once count once.

        No wait is longer than `at_most_s`, unless this process was stopped in it.
        """
        now = time.monotonic()
        self._waited_s += min(now - max(began_s, self._counted_s), at_most_s)
        self._counted_s = now

    def _check(self) -> None:
        if self._waited_s > self.patience_s:
            raise Unreachable(
                f"less than {self._worth_bytes:.0f} bytes came in {self.patience_s:g} seconds",
                hint="check the network and the server; what was fetched is kept",
                slug="too-slow",
            )


class Retry:
    """The tries of one file, as long as the patience with the whole fetcher lasts."""

    def __init__(self, liveness: Liveness, first_backoff_s: float, stop: threading.Event) -> None:
        self._liveness = liveness
        self._first_backoff_s = first_backoff_s
        self._backoff_s = first_backoff_s
        self._stop = stop
        self._started_s = time.monotonic()
        self._furthest = 0
        self._stuck = 0
        self._tries = 0
        self.wrong = 0

    def after(self, again: Again, received: int) -> None:
        """Waits until the next try, or raises the failure when there is none.

        `received`: how many bytes of the body the failed try got.
        """
        self._count(again, received)
        left_s = self._patience_left_s()
        if left_s <= 0 or self._is_hopeless() or self._was_stopped(min(self._pause(again), left_s)):
            raise again.failure from again.failure.__cause__

    def _was_stopped(self, pause_s: float) -> bool:
        began_s = time.monotonic()
        was_stopped = self._stop.wait(pause_s)
        self._liveness.waited(began_s, pause_s)
        return was_stopped

    def _count(self, again: Again, received: int) -> None:
        self._tries += 1
        if again.wrong:
            self.wrong += 1
        elif received > self._furthest:
            self._furthest, self._stuck = received, 0
            self._backoff_s = self._first_backoff_s
        elif received:
            self._stuck += 1

    def _is_hopeless(self) -> bool:
        never_answered = not self._liveness.answered and self._tries >= FIRST_CONTACT_TRIES
        return never_answered or self.wrong >= WRONG_TRIES or self._stuck >= STUCK_TRIES

    def _patience_left_s(self) -> float:
        """From the last byte, but not from before this file: copying files takes long, too."""
        since_s = max(self._liveness.last_byte_s, self._started_s)
        return since_s + self._liveness.patience_s - time.monotonic()

    def _pause(self, again: Again) -> float:
        pause = self._backoff_s * (0.5 + random.random())  # noqa: S311 (jitter, not a secret)
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)
        return max(pause, again.wait_s)


def retry_after_s(header: Optional[str], now: float) -> float:
    """Seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3), bounded; 0 without.

    `now`: seconds since the epoch.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        date = email.utils.parsedate_to_datetime(text)
        return min(max(date.timestamp() - now, 0.0), MAX_RETRY_AFTER_S)
    except (TypeError, ValueError, OverflowError, IndexError):
        return 0.0
