"""What happens while a command runs, as values; renderers and logs are sinks of these.

Effectful functions take `emit: Emit` and never print; they do not know who listens.
"""

from __future__ import annotations

import enum
import threading
import time
from dataclasses import dataclass
from typing import Callable, Tuple, Union

#: A phase that moves is reported this often, however long a hundredth of it takes.
_REPORT_S = 1.0


class Phase(enum.Enum):
    """The parts of a command a user waits for, named as a user would name them."""

    METADATA = "metadata"
    COMPARE = "compare"
    FILL = "fill"
    DOWNLOAD = "download"
    FINISH = "finish"
    VERIFY = "verify"
    BOOT = "boot"
    HEALTH = "health"
    BUILD = "build"
    #: What a newer `ota` on another ECU waits for.
    OTHER = "other"


@dataclass(frozen=True)
class PhaseStarted:
    phase: Phase
    text: str


@dataclass(frozen=True)
class Ahead:
    """What is still to be done, in the phases that have work: the bytes of each, as far as known.

    A later one replaces it: the plan knows more than a first look.
    """

    work: Tuple[Tuple[Phase, int], ...]


@dataclass(frozen=True)
class Progress:
    """Absolute position within one phase; `done_bytes` never go back, `total_bytes` may grow."""

    phase: Phase
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Done:
    """What `Ahead` was about is done: this is the 100 of a progress bar."""


@dataclass(frozen=True)
class Note:
    """Something the user may want to know."""

    text: str


@dataclass(frozen=True)
class Warned:
    """Something the user should look at although the command goes on."""

    text: str


@dataclass(frozen=True)
class Changed:
    """The state of this device has changed, durably. `state`: a phase of a transaction, or that
    of a slot. `is_bad`: nobody wanted that. `version` and `txn` may be empty."""

    state: str
    slot: str
    version: str
    txn: str
    text: str
    is_bad: bool


@dataclass(frozen=True)
class Hello:
    """The first word of an ECU to the one above it. `schema`: of what follows."""

    schema: int
    version: str
    ecu_id: str


@dataclass(frozen=True)
class Alive:
    """Nothing new, but at work: for an ECU above that would take silence for a broken link."""


@dataclass(frozen=True)
class Ready:
    """All of `ecus`, an ECU and those below it, could be switched now; the word is awaited.

    `trying`: those among them whose next boot would be a trial; the others run the image already.
    """

    ecus: Tuple[str, ...]
    trying: Tuple[str, ...]


Plain = Union[
    PhaseStarted, Ahead, Progress, Done, Note, Warned, Changed, Hello, Alive, Ready
]  # fmt: skip


@dataclass(frozen=True)
class OfEcu:
    """What happens on another ECU."""

    ecu_id: str
    event: Plain


Event = Union[Plain, OfEcu]
Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """The sink of those who do not listen."""


class Meter:
    """Counts the bytes of one phase, from any thread; reports every hundredth and every second."""

    def __init__(self, emit: Emit, phase: Phase, total_bytes: int) -> None:
        self._emit = emit
        self._phase = phase
        self._total = total_bytes
        self._done = 0
        self._reported = -1
        self._reported_s = time.monotonic()
        self._lock = threading.Lock()

    def expect(self, count: int) -> None:
        """`count` bytes more than was known are to be done."""
        with self._lock:
            self._total += count

    def add(self, count: int) -> None:
        """`count` more bytes are done."""
        with self._lock:
            self._reach(self._done + count)

    def reach(self, count: int) -> None:
        """At least `count` bytes are done, however they were counted."""
        with self._lock:
            self._reach(max(self._done, count))

    def _reach(self, count: int) -> None:
        self._done = min(count, self._total)
        step = self._done * 100 // self._total if self._total else 100
        now = time.monotonic()
        if step == self._reported and now - self._reported_s < _REPORT_S:
            return
        self._reported, self._reported_s = step, now
        self._emit(Progress(self._phase, self._done, self._total))
