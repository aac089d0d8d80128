"""Objects on their way from the server: fetched once, followed by all who ask meanwhile."""

from __future__ import annotations

import os
import threading
from typing import Callable, Dict, Iterator, Optional, Set, Tuple, Union

from .cache import Cache, Draft, NeverFits
from .stored import Head, Stored
from .wanted import Refused

_PIECE_BYTES = 256 * 1024


class CutShort(Exception):
    """The rest of an object will not come, and its beginning was sent already."""


class Unstorable(Refused):
    """The cache has no room for this object now: it can only be passed on."""


class Flight:
    """One object that one thread brings, into `draft`, while others read what has arrived."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._source = os.open(draft.path, os.O_RDONLY | os.O_CLOEXEC)
        self._changed = threading.Condition()
        self._head: Optional[Head] = None
        self._arrived = 0
        self._followers = 0
        self._is_over = False
        self._failure: Optional[Refused] = None

    def begin(self, head: Head) -> None:
        """The server has answered. Raises OSError for more than the cache can hold."""
        self.draft.require_room(head.length or 0)
        with self._changed:
            self._head = head
            self._changed.notify_all()

    def add(self, chunk: bytes) -> None:
        """The next bytes of the body. Raises OSError, and Refused where nobody waits for a body of
        which no end is known: it may have none."""
        self.draft.add(chunk)
        with self._changed:
            self._arrived += len(chunk)
            self._changed.notify_all()
            is_endless = self._head is None or self._head.length is None
            if is_endless and not self._followers:
                raise Refused(502, "all who waited for it are gone")

    def end(self, failure: Optional[Refused] = None) -> None:
        """Nothing follows; `failure`: why it is not whole."""
        with self._changed:
            self._is_over = True
            self._failure = failure
            self._changed.notify_all()

    def join(self) -> int:
        """One more reads what arrives, from the descriptor, until `leave`. Not after `land`."""
        descriptor = os.dup(self._source)
        with self._changed:
            self._followers += 1
        return descriptor

    def leave(self, descriptor: int) -> None:
        """Who has joined is gone."""
        os.close(descriptor)
        with self._changed:
            self._followers -= 1

    def land(self) -> None:
        """Nobody will join any more."""
        os.close(self._source)

    def head(self) -> Head:
        """Waits for the answer. Raises Refused where there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._head is not None or self._is_over)
            if self._head is None:
                raise self._failure or Refused(502, "the server sent nothing")
            return self._head

    def arrived(self, beyond: int) -> int:
        """Waits for more than `beyond` bytes, or the end; how many have arrived.

        Raises CutShort where they will not.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._arrived > beyond or self._is_over)
            if self._arrived <= beyond and self._failure is not None:
                raise CutShort(self._failure.why)
            return self._arrived


class Follower:
    """One who reads along with a flight; to be closed."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._descriptor = flight.join()

    def head(self) -> Head:
        """See `Flight.head`."""
        return self._flight.head()

    def pieces(self, offset: int) -> Iterator[bytes]:
        """The body from byte `offset` on, as it arrives. Raises CutShort."""
        while (count := self._flight.arrived(offset) - offset) > 0:
            piece = os.pread(self._descriptor, min(count, _PIECE_BYTES), offset)
            if not piece:
                raise CutShort("the cache lost what had arrived")
            offset += len(piece)
            yield piece

    def close(self) -> None:
        """Ends reading."""
        self._flight.leave(self._descriptor)


class Flights:
    """All flights into one cache, by key."""

    def __init__(self, cache: Cache, start: Callable[[Callable[[], None]], object]) -> None:
        self._cache = cache
        self._start = start
        self._lock = threading.Lock()
        self._flights: Dict[str, Flight] = {}
        #: Too large for the cache, whenever they come.
        self._unstorable: Set[str] = set()

    def join(
        self, key: str, bring: Callable[[Flight], None]
    ) -> Tuple[Union[Follower, Stored, None], bool]:
        """Follows the flight of `key`, which begins if there is none, and whether there was one.

        `bring(flight)` is run by another thread: it fetches the object and ends the flight. One
        that has just ended has left the object in the cache. None: there is no room for it.
        """
        with self._lock:
            under_way = self._flights.get(key)
            if under_way is not None:
                return Follower(under_way), True
            stored = self._cache.find(key)
            if stored is not None:
                return stored, True
            draft = None if key in self._unstorable else self._cache.begin(key)
            if draft is None:
                return None, False
            flight = self._flights[key] = Flight(draft)
            follower = Follower(flight)
        self._start(lambda: self._fly(key, flight, bring))
        return follower, False

    def _fly(self, key: str, flight: Flight, bring: Callable[[Flight], None]) -> None:
        failure: Optional[Refused] = Refused(502, "the proxy has ended")
        try:
            bring(flight)
            failure = None
        except Refused as refused:
            failure = refused
        except OSError as error:
            failure = Unstorable(507, f"the proxy can not store it: {error.strerror}")
            if isinstance(error, NeverFits):
                self._unstorable.add(key)
        finally:
            with self._lock:
                flight.draft.discard()
                flight.land()
                del self._flights[key]
            flight.end(failure)
