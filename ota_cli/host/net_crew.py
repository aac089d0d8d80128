"""Several threads that work through a list, and the one switch that ends all of them."""

from __future__ import annotations

import itertools
import queue
import socket
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Callable, Generic, Iterator, List, Sequence, TypeVar, Union

#: A thread that just connects can not be woken; it ends by itself with its connect timeout.
_GOODBYE_S = 5.0

Item = TypeVar("Item")
Made = TypeVar("Made")


class Halt:
    """Ends all work that watches it: waits end, reads from the watched sockets end."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()

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


def work_through(
    items: Sequence[Item], work: Callable[[Item], Made], threads: int, halt: Halt
) -> Iterator[Made]:
    """Yields what `work` makes of each item, in the order of completion.

    The first failure halts everything and is raised; so does closing the iterator early.
    """
    results: queue.SimpleQueue[Union[_Made[Made], Future[None]]] = queue.SimpleQueue()
    remaining = iter(items)
    lock = threading.Lock()

    def take() -> List[Item]:
        with lock:
            return list(itertools.islice(remaining, 1))

    def loop() -> None:
        while not halt.event.is_set():
            taken = take()
            if not taken:
                return
            results.put(_Made(work(taken[0])))

    pool = ThreadPoolExecutor(threads)
    crew: List[Future[None]] = []
    try:
        # Inside: a pool that is not shut down keeps a thread whose start was interrupted.
        for _ in range(min(threads, len(items))):
            crew.append(pool.submit(loop))
        for member in crew:
            member.add_done_callback(results.put)
        yield from _collect(results, len(crew))
    finally:
        if not all(member.done() for member in crew):
            halt.now()
            wait(crew, timeout=_GOODBYE_S)
        pool.shutdown(wait=False)


def _collect(
    results: queue.SimpleQueue[Union[_Made[Made], Future[None]]], working: int
) -> Iterator[Made]:
    while working:
        result = results.get()
        if isinstance(result, _Made):
            yield result.value
        else:
            working -= 1
            result.result()
