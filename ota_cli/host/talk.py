"""A program that one talks to by lines, bounded in what it says and how long it is silent.

What it prints is somebody else's word: a line is at most `MAX_LINE_BYTES` long, and of what it
says on stderr only the end is kept.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Deque, Optional, Sequence, Type

from ..errors import OtaError
from .run import CommandFailed, clean_environment

MAX_LINE_BYTES = 1024 * 1024
_KEPT_STDERR_BYTES = 8 * 1024
_CHUNK_BYTES = 64 * 1024
#: How long a program may take to end once nobody talks to it any more.
_LAST_WORDS_S = 5.0


class Silent(OtaError):
    """The program said nothing within its time. Callers raise their own error from this one."""


class Overlong(OtaError):
    """The program does not end its line. Callers raise their own error from this one."""


class Conversation:
    """`argv` runs while the `with` block does, in a session of its own: a Ctrl-C is ours alone.

    `descriptors`: what it gets of ours. One thread reads; any thread may `say`, `hang_up` or
    `kill`.
    """

    def __init__(self, argv: Sequence[str], descriptors: Sequence[int] = ()) -> None:
        self._argv = list(argv)
        self._descriptors = tuple(descriptors)
        self._lines: Deque[bytes] = deque()
        self._rest = bytearray()
        self._stderr = bytearray()
        self._lock = threading.Lock()

    def __enter__(self) -> Conversation:
        try:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=clean_environment(), cwd="/", start_new_session=True, bufsize=0,
                pass_fds=self._descriptors,
            )  # fmt: skip
        except FileNotFoundError:
            raise CommandFailed(self._argv, "is not installed") from None
        except OSError as error:
            raise CommandFailed(self._argv, f"can not be run: {error.strerror}") from None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._selector = selectors.DefaultSelector()
        for stream in (self._process.stdout, self._process.stderr):
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ)
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if kind is not None:  # nobody wants to hear its last words
            self.kill()
        self.ended()
        self._selector.close()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def say(self, line: bytes) -> None:
        """Sends `line`, which ends in a newline. A program that has ended does not hear it."""
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock, suppress(BrokenPipeError, ValueError):  # ValueError: hung up
            stdin.write(line)

    def hang_up(self) -> None:
        """Ends the program's stdin: it has nothing to wait for any more."""
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock, suppress(BrokenPipeError):
            stdin.close()

    def kill(self) -> None:
        """Ends the program at once: what it has not said yet is lost."""
        self._process.kill()

    def line(self, until: float) -> Optional[bytes]:
        """The next line without its newline; None after the last.

        Raises Silent when `time.monotonic()` reaches `until` first, and Overlong.
        """
        while not self._lines:
            goes_on = self._read(until)
            if len(self._rest) > MAX_LINE_BYTES:
                raise Overlong(f"`{self._argv[0]}` prints a line without end")
            if not goes_on:
                if not self._rest:
                    return None
                self._lines.append(bytes(self._rest))  # the last lacks its newline
                self._rest.clear()
        return self._lines.popleft()

    def ended(self) -> int:
        """The program's exit status, negative for a signal; one that stays is killed."""
        self.hang_up()
        give_up = time.monotonic() + _LAST_WORDS_S
        with suppress(Silent):
            while self._read(give_up):
                self._lines.clear()
                self._rest.clear()
        try:
            status = self._process.wait(max(0.1, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._drain_stderr()
        return status

    def last_words(self) -> str:
        """The end of what the program said on stderr."""
        return self._stderr.decode("utf-8", "replace").strip()

    def _read(self, until: float) -> bool:
        """Takes in what is there; False once stdout has ended."""
        assert self._process.stdout is not None
        stdout = self._process.stdout.fileno()
        if stdout not in self._selector.get_map():
            return False
        left_s = until - time.monotonic()
        ready = self._selector.select(left_s) if left_s > 0 else []
        if not ready:
            raise Silent(f"`{self._argv[0]}` is silent")
        for key, _ in ready:
            data = os.read(key.fd, _CHUNK_BYTES)
            if not data:
                self._selector.unregister(key.fileobj)
            elif key.fd == stdout:
                self._take(data)
            else:
                self._keep(data)
        return True

    def _drain_stderr(self) -> None:
        """What is there already: a background process of the program may hold it open."""
        assert self._process.stderr is not None
        with suppress(BlockingIOError):
            while True:
                data = os.read(self._process.stderr.fileno(), _CHUNK_BYTES)
                if not data:
                    return
                self._keep(data)

    def _keep(self, data: bytes) -> None:
        self._stderr = (self._stderr + data)[-_KEPT_STDERR_BYTES:]

    def _take(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._lines.append(bytes(self._rest) + line)
            self._rest.clear()
        self._rest += rest
