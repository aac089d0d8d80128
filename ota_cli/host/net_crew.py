"""Several threads that work through a list, and the one switch that ends all of them."""

from __future__ import annotations

import itertools
import queue
import socket
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import (
    Callable,
    Generator,
    Generic,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Set,
    TypeVar,
    Union,
)

from ..errors import Unreachable
from .interrupts import deferred

#: A thread that just connects can not be woken; it ends by itself with its connect timeout.
_GOODBYE_S = 5.0
#: A crew begins with so many threads, and is looked at this often until it is complete.
_FIRST = 2
_LOOK_S = 0.1
_ATTEND_S = 1.0
#: From this share of one processor on, more threads would not get more done.
_BUSY = 0.6

Item = TypeVar("Item")
Made = TypeVar("Made")
_Each = TypeVar("_Each", covariant=True)


class Many(Protocol[_Each]):
    """Items that perhaps are made one at a time."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_Each]: ...


class Halt:
    """Ends all work that watches it: waits end, reads from the watched sockets end."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raises Unreachable once halted."""
        if self.event.is_set():
            raise Unreachable("the download was broken off", slug="broken-off")

    def watch(self, connection: socket.socket) -> None:
        """Makes reads from `connection` end at the halt, also when that was before."""
        with self._lock:
            self._sockets.add(connection)
        if self.event.is_set():
            _cut(connection)

    def now(self) -> None:
        """Halts; nothing that watches this can go on."""
        self.event.set()
        with self._lock:
            connections = list(self._sockets)
        for connection in connections:
            _cut(connection)


def _cut(connection: socket.socket) -> None:
    """Wakes a thread that reads; the TLS object's own shutdown is no good across threads."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Made(Generic[Made]):
    def __init__(self, value: Made) -> None:
        self.value = value


def nothing_else() -> None:
    """What most have to attend to while a crew works."""


def work_through(
    items: Many[Item],
    work: Callable[[Item], Made],
    most: int,
    halt: Halt,
    attend: Callable[[], None] = nothing_else,
) -> Generator[Made, None, None]:
    """Yields what `work` makes of each item, in the order of completion, on up to `most` threads.

    The first failure halts everything and is raised; so does closing the iterator early, and
    what `attend` raises, which is called every second at least.
    """
    crew = _Crew(items, work, min(most, len(items)), halt)
    try:
        for made in crew.made():
            attend()
            if made is not None:
                yield made.value
    finally:
        crew.dismiss()


def crew_size(size: int, most: int, busy: float) -> int:
    """How many threads are wanted after `size` were `busy` (their processor time over wall time).

    Threads that wait for a far server can be many. Where the processor is what limits, more of
    them only take the interpreter's lock from each other: 32 then need twice the time of two.
    """
    return size if busy >= _BUSY else min(size * 2, most)


class CrewClock:
    """The processor time of the threads that joined it. Others of this process do not count: those
    that copy and hash large files meanwhile run without the interpreter's lock."""

    def __init__(self) -> None:
        self._clocks: Set[int] = set()

    def join(self) -> None:
        """Counts the thread that calls this, which must live as long as anybody looks."""
        self._clocks.add(time.pthread_getcpuclockid(threading.get_ident()))

    def seconds(self) -> float:
        """What they took so far, also of work that is not done yet."""
        return sum(time.clock_gettime(clock) for clock in tuple(self._clocks))


class _Crew(Generic[Item, Made]):
    """Threads that take one item after the other; more of them as long as that helps."""

    def __init__(
        self, items: Many[Item], work: Callable[[Item], Made], most: int, halt: Halt
    ) -> None:
        self._remaining = iter(items)
        self._work = work
        self._most = most
        self._halt = halt
        self._lock = threading.Lock()
        self._results: queue.SimpleQueue[Union[_Made[Made], Future[None]]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(max(most, 1))
        self._members: List[Future[None]] = []
        self._clock = CrewClock()
        self._clock.join()  # putting in place what is made takes the interpreter's lock as well
        self._looked = self._now()

    def made(self) -> Iterator[Optional[_Made[Made]]]:
        """What is made, until nothing is left; None every second at least while nothing is.

        Must be ended by `dismiss`.
        """
        self._grow(min(_FIRST, self._most))
        ended = 0
        while ended < len(self._members):
            result = self._next()
            if result is None or isinstance(result, _Made):
                yield result
            else:
                ended += 1
                result.result()

    def dismiss(self) -> None:
        """Halts those who still work, and waits for them a while."""
        if not all(member.done() for member in self._members):
            self._halt.now()
            wait(self._members, timeout=_GOODBYE_S)
        self._pool.shutdown(wait=False)

    def _next(self) -> Optional[Union[_Made[Made], Future[None]]]:
        """The next result; None when there was none for a while."""
        if len(self._members) == self._most:
            return self._wait(_ATTEND_S)
        now = self._now()
        passed = now.wall_s - self._looked.wall_s
        if passed >= _LOOK_S:
            busy = (now.processor_s - self._looked.processor_s) / passed
            self._looked = now
            self._grow(crew_size(len(self._members), self._most, busy))
            return None
        return self._wait(_LOOK_S - passed)

    def _wait(self, seconds: float) -> Optional[Union[_Made[Made], Future[None]]]:
        with suppress(queue.Empty):
            return self._results.get(timeout=seconds)
        return None

    def _grow(self, size: int) -> None:
        for _ in range(size - len(self._members)):
            with deferred():
                member = self._pool.submit(self._loop)
                self._members.append(member)
            member.add_done_callback(self._results.put)

    def _now(self) -> _Clocks:
        return _Clocks(time.monotonic(), self._clock.seconds())

    def _loop(self) -> None:
        self._clock.join()
        while not self._halt.event.is_set():
            taken = self._take()
            if not taken:
                return
            self._results.put(_Made(self._work(taken[0])))

    def _take(self) -> List[Item]:
        with self._lock:
            return list(itertools.islice(self._remaining, 1))


class _Clocks(NamedTuple):
    wall_s: float
    processor_s: float
