"""Asking the ECUs below: one connection each for the time of a command, one request a session."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Callable, Iterator, Optional, Set, Type, TypeVar, Union

from ..core.protocol import SCHEMA, Answer, BadLine, Object, parse_line
from ..core.requests import Request, compose_request
from ..errors import ConfigError
from ..events import Alive, Emit, Event, Hello, OfEcu
from ..host.run import CommandFailed, run
from ..host.talk import Conversation, Overlong, Silent
from ..model import Device, Secondary
from . import failures
from .beat import SILENCE_S, beating
from .ssh import (
    CONNECT_TIMEOUT_S,
    SshFiles,
    close_argv,
    gate_argv,
    make_directory,
    remove_directory,
)


class Links:
    """The connections of one command to the ECUs below `device`, closed when the block ends."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._under_way = UnderWay()

    def __enter__(self) -> Links:
        self._directory = make_directory()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        for secondary in self._device.ecu.secondaries:
            control = self._control(secondary)
            if control.exists():
                with suppress(CommandFailed):  # it ended by itself
                    run(close_argv(secondary, control), timeout_s=5)
        remove_directory(self._directory)

    def to(self, secondary: Secondary) -> Link:
        """How to ask `secondary`. Raises ConfigError where our key can not be read."""
        known = self._device.state_directory / "known_hosts"
        files = SshFiles(
            control=self._control(secondary),
            known_hosts=self._alias("known_hosts", known) if known.exists() else None,
            identity=self._identity(secondary),
        )
        return Link(secondary, files, str(known), self._under_way)

    def abandon(self) -> None:
        """Ends all sessions at once, from any thread, and all that begin later: who reads them
        gets an error."""
        self._under_way.end()

    def _control(self, secondary: Secondary) -> Path:
        return self._directory / f"{self._number(secondary)}.socket"

    def _number(self, secondary: Secondary) -> int:
        return self._device.ecu.secondaries.index(secondary)

    def _identity(self, secondary: Secondary) -> Optional[Path]:
        if secondary.identity_file is None:
            return None
        path = self._device.root / secondary.identity_file.lstrip("/")
        if not os.access(path, os.R_OK):
            raise failures.refusal(
                secondary, ConfigError, "identity-file", f"our key {path} can not be read",
                "make it with `ssh-keygen`, or run this as root",
            )  # fmt: skip
        return self._alias(f"{self._number(secondary)}.key", path)

    def _alias(self, name: str, path: Path) -> Path:
        alias = self._directory / name
        with suppress(FileExistsError):
            alias.symlink_to(path)
        return alias


Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Link:
    """How to ask one ECU: any number of sessions, one after the other.

    `known_hosts`: the file to name to the user. `under_way`: where sessions are noted.
    """

    secondary: Secondary
    files: SshFiles
    known_hosts: str
    under_way: UnderWay

    def ask(self, request: Object, emit: Emit, until: float) -> Answer:
        """The answer to `request`, given before `time.monotonic()` reaches `until`.

        Raises what `session` raises.
        """
        with self.session(request, until) as session:
            return session.answer(emit)

    def result(
        self, request: Request, emit: Emit, until: float, read: Callable[[Object], Parsed]
    ) -> Parsed:
        """What `read` makes of the result of `request`.

        Raises what `session` raises, the failure that the other ECU tells, and one about it where
        `read` raises BadLine.
        """
        answer = self.ask(compose_request(request), emit, until)
        if answer.error is not None:
            raise failures.told(self.secondary, answer)
        try:
            return read(answer.result)
        except BadLine as error:
            raise failures.nonsense(self.secondary, str(error)) from None

    @contextmanager
    def session(self, request: Object, until: float) -> Iterator[Session]:
        """Asks, and hands out the session while the block runs; its end ends the work there.

        Raises an error of `failures` when there is no `hello` from the right ECU, or when it
        ended before.
        """
        connect_s = min(CONNECT_TIMEOUT_S, until - time.monotonic())
        argv = gate_argv(self.secondary, self.files, connect_s)
        with Conversation(argv) as talk, self.under_way.noted(talk), beating(
            lambda: talk.say(b"\n")
        ):
            session = Session(self, talk, until)
            session.say(request)
            session.greet()
            yield session


def of_ecu(secondary: Secondary, emit: Emit) -> Emit:
    """A sink for the events of `secondary`; those of ECUs below it have a name already."""
    return lambda said: emit(said if isinstance(said, OfEcu) else OfEcu(secondary.ecu_id, said))


class UnderWay:
    """The sessions that are under way, from many threads, so that one can end them all."""

    def __init__(self) -> None:
        self._talks: Set[Conversation] = set()
        self._is_over = False
        self._lock = threading.Lock()

    @contextmanager
    def noted(self, talk: Conversation) -> Iterator[None]:
        """`talk` is under way while the block runs."""
        with self._lock:
            self._talks.add(talk)
            if self._is_over:
                talk.kill()
        try:
            yield
        finally:
            with self._lock:
                self._talks.discard(talk)

    def end(self) -> None:
        """Kills all of them, and each that is noted from now on."""
        with self._lock:
            self._is_over = True
            for talk in self._talks:
                talk.kill()


class Session:
    """One request's events and answer."""

    def __init__(self, link: Link, talk: Conversation, until: float) -> None:
        self._link = link
        self._talk = talk
        self._until = until

    def greet(self) -> None:
        """Takes the first line, which must be the `hello` of the ECU that was meant."""
        secondary = self._link.secondary
        data = self._line()
        if data is None:
            raise failures.no_hello(
                secondary, self._talk.ended(), self._talk.last_words(), self._link.known_hosts
            )
        said = self._parsed(data)
        if isinstance(said, Answer) and said.error is not None:
            raise failures.told(secondary, said)
        if not isinstance(said, Hello):
            raise failures.nonsense(secondary, "its first line is not a hello")
        if said.schema != SCHEMA:
            raise failures.other_schema(secondary, said)
        if said.ecu_id != secondary.ecu_id:
            raise failures.other_ecu(secondary, said)

    def say(self, word: Object) -> None:
        """Sends another object; who hears it no more is found out by `next`."""
        self._talk.say(json.dumps(word).encode() + b"\n")

    def next(self) -> Union[Event, Answer]:
        """The next event, or the answer, after which there is nothing."""
        while True:
            data = self._line()
            if data is None:
                raise failures.lost(
                    self._link.secondary, self._talk.ended(), self._talk.last_words()
                )
            said = self._parsed(data)
            if said is not None and not isinstance(said, (Alive, Hello)):
                return said

    def answer(self, emit: Emit) -> Answer:
        """The answer, after the events before it went to `emit`."""
        while True:
            said = self.next()
            if isinstance(said, Answer):
                return said
            emit(said)

    def _line(self) -> Optional[bytes]:
        started = time.monotonic()
        limit = min(started + SILENCE_S, self._until)
        try:
            return self._talk.line(limit)
        except Silent:
            raise failures.silent(self._link.secondary, limit - started) from None
        except Overlong:
            raise failures.nonsense(self._link.secondary, "a line of it has no end") from None

    def _parsed(self, data: bytes) -> Union[Event, Answer, None]:
        try:
            return parse_line(data)
        except BadLine as error:
            raise failures.nonsense(self._link.secondary, str(error)) from None
