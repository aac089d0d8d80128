"""The other end of a `Link`: this ECU is asked by the one above it, and works while that listens.

Invariant: when the ECU above is gone, so is what it began, within `SILENCE_S` + `_GRACE_S`
seconds; work that is cut off so is resumed by the next request, as after any other interrupt.
"""

from __future__ import annotations

import os
import queue
import selectors
import signal
import threading
import time
from contextlib import suppress
from typing import ContextManager, Optional

from ..core.requests import Go, Request, parse_go, parse_request
from ..errors import ConfigError, UsageProblem
from ..events import Alive, Emit
from .beat import SILENCE_S, beating
from .ssh import GATE_COMMAND

_REQUEST_WITHIN_S = 10.0
_MAX_LINE_BYTES = 64 * 1024
#: Lines that nobody has asked for yet; there is a request, and a word or two after it.
_MAX_LINES = 16
_CHUNK_BYTES = 4096
#: For the clean end of what is under way; then it is killed, which it survives as well.
_GRACE_S = 8.0


def require_gate_command(asked_for: Optional[str]) -> None:
    """Raises UsageProblem where the key's owner asked for another command.

    `asked_for`: SSH_ORIGINAL_COMMAND, which sshd(8) sets for forced commands.
    """
    if asked_for is not None and asked_for != GATE_COMMAND:
        raise UsageProblem(
            f"this key is for `{GATE_COMMAND}` only", hint="use another key", slug="gate-only"
        )


class Lifeline:
    """What comes from the ECU above: the request, later words, and signs of life between them.

    When it ends, brings nothing for `SILENCE_S` seconds or more than it may, this process gets a
    SIGTERM.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(_MAX_LINES)
        threading.Thread(target=self._listen, daemon=True).start()

    def request(self) -> Request:
        """The first line. Raises UsageProblem when it is not a request, or does not come."""
        try:
            return parse_request(self._lines.get(timeout=_REQUEST_WITHIN_S))
        except queue.Empty:
            raise UsageProblem(
                f"no request came within {_REQUEST_WITHIN_S:.0f} s",
                hint="this is for another `ota`, not to be typed",
                slug="request",
            ) from None

    def await_go(self, txn: str) -> Go:
        """The word to arm `txn`, when it comes. Raises UsageProblem for any other word."""
        go = parse_go(self._lines.get())
        if go.txn != txn:
            raise UsageProblem("the word is for another transaction", slug="request")
        return go

    def _listen(self) -> None:
        with suppress(queue.Full, OSError):  # also a connection that was reset
            self._take_lines()
        _end_this_process()

    def _take_lines(self) -> None:
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._descriptor, selectors.EVENT_READ)
            while len(rest) <= _MAX_LINE_BYTES and selector.select(SILENCE_S):
                data = os.read(self._descriptor, _CHUNK_BYTES)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in filter(None, lines):
                    self._lines.put_nowait(line)


def alive(emit: Emit) -> ContextManager[None]:
    """Tells again and again that the work of the block goes on."""
    return beating(lambda: emit(Alive()))


def require_no_circle(ecu_id: str, request: Request) -> None:
    """Raises ConfigError where the question has come back to an ECU that it went through."""
    if ecu_id in request.above:
        circle = " > ".join((*request.above, ecu_id))
        raise ConfigError(
            f"ECUs list each other as secondaries: {circle}",
            hint="correct `secondaries` in their ecu_info.yml",
            slug="ecu-circle",
        )


def _end_this_process() -> None:
    """As for a user's Ctrl-C, it cleans up; what can not is ended by a SIGKILL."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
