"""A limit for the rate of all downloads together: a token bucket."""

from __future__ import annotations

import threading
import time
from typing import Optional


class Bucket:
    """Pure arithmetic: tells how long to wait after taking bytes. `now` is in seconds.

    It saves up at most a quarter of a second's worth, so that the rate is even.
    """

    def __init__(self, bytes_per_second: int, now: float) -> None:
        self._rate = bytes_per_second
        self._level = 0.0
        self._time = now

    def take(self, count: int, now: float) -> float:
        """Seconds to wait so that the rate holds once `count` more bytes were received."""
        gained = (now - self._time) * self._rate
        self._level = min(self._level + gained, self._rate / 4) - count
        self._time = now
        return max(-self._level / self._rate, 0.0)


class Throttle:
    """One bucket shared by all download threads; without a rate it never waits."""

    def __init__(self, bytes_per_second: Optional[int], stop: threading.Event) -> None:
        now = time.monotonic()
        self._bucket = Bucket(bytes_per_second, now) if bytes_per_second else None
        self._lock = threading.Lock()
        self._stop = stop

    def received(self, count: int) -> None:
        """Accounts for `count` bytes and waits as long as the rate demands."""
        if self._bucket is None:
            return
        with self._lock:
            pause = self._bucket.take(count, time.monotonic())
        if pause:
            self._stop.wait(pause)
