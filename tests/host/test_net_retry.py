"""How long a server is waited for, and how long it is left alone before it is asked again."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Callable, ContextManager, Iterator, List, Optional

import pytest

from ota_cli.errors import Unreachable
from ota_cli.host.net import Fetcher, NetSettings
from ota_cli.host.net_retry import MAX_BACKOFF_S, Again, Liveness, Retry
from tests.support.hostile import LENGTH, OK, Talk, TlsServer
from tests.support.webserver import Answer, WebServer

#: With the timeouts of devices, each of these tests would take a minute.
HASTY = NetSettings(connect_timeout_s=0.2, read_timeout_s=0.2, first_backoff_s=0.01)
SOON_S = 15.0
BACKLOG = 50


# --- pauses ----------------------------------------------------------------------------------


class Pauses(threading.Event):
    """Nobody waits; `asked`: how long it would have been."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: List[float] = []

    def wait(self, timeout: Optional[float] = None) -> bool:
        assert timeout is not None
        self.asked.append(timeout)
        return False


def retry(first_backoff_s: float, pauses: Pauses) -> Retry:
    """Of a file from a server that has answered before."""
    liveness = Liveness(patience_s=3600)
    liveness.saw_answer()
    return Retry(liveness, first_backoff_s, pauses)


def failed(wait_s: float = 0.0) -> Again:
    return Again(Unreachable("it failed", hint="try again"), wait_s=wait_s)


def test_each_pause_is_about_twice_the_one_before_up_to_a_limit() -> None:
    pauses = Pauses()
    tries = retry(0.5, pauses)
    for _ in range(12):
        tries.after(failed(), 0)
    meant = [min(0.5 * 2**number, MAX_BACKOFF_S) for number in range(12)]
    assert meant[-1] == MAX_BACKOFF_S
    for pause, middle in zip(pauses.asked, meant):
        assert middle * 0.5 <= pause <= middle * 1.5
    assert len(pauses.asked) == 12


def test_what_gets_further_is_tried_again_at_once() -> None:
    pauses = Pauses()
    tries = retry(0.5, pauses)
    for received in (0, 0, 0, 0, 1000):
        tries.after(failed(), received)
    assert pauses.asked[3] >= 2
    assert pauses.asked[4] <= 0.75


def test_no_pause_is_shorter_than_the_server_wants() -> None:
    pauses = Pauses()
    retry(0.5, pauses).after(failed(wait_s=100), 0)
    assert pauses.asked == [100]


def test_a_server_that_only_fails_is_asked_seldom_and_given_up(tmp_path: Path) -> None:
    """With pauses that do not grow it would be asked some sixty times."""
    with WebServer(tmp_path) as web:
        web.script["/x"] = [Answer(status=503)]
        settings = replace(HASTY, cacert=web.cacert, read_timeout_s=5, no_progress_timeout_s=1)
        with Fetcher(web.url, settings) as fetcher, pytest.raises(Unreachable):
            fetcher.metadata("x", 10)
        assert 2 <= len(web.seen) <= 10


# --- silence ---------------------------------------------------------------------------------


@contextmanager
def nobody() -> Iterator[str]:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield address_of(closed)


@contextmanager
def full_backlog() -> Iterator[str]:
    """As behind a firewall that drops: connecting gets no answer."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(BACKLOG):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.3)
            try:
                waiting.connect(listener.getsockname())
            except socket.timeout:
                yield address_of(listener)
                return
        pytest.skip("here a backlog of 0 takes everybody")


@contextmanager
def silent_from_the_start() -> Iterator[str]:
    """The kernel takes the connection; nobody greets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield address_of(listener)


def address_of(listener: socket.socket) -> str:
    return f"https://127.0.0.1:{listener.getsockname()[1]}/"


def silent_after(said: bytes) -> Talk:
    """Until the client goes."""

    def talk(connection: ssl.SSLSocket) -> None:
        connection.sendall(said)
        connection.settimeout(60)
        connection.recv(1)

    return talk


def seconds_until_given_up(url: str, settings: NetSettings = HASTY) -> float:
    began_s = time.monotonic()
    with Fetcher(url, settings) as fetcher, pytest.raises(Unreachable) as raised:
        fetcher.metadata("x", 10_000)
    assert url.split("/")[2] in raised.value.message
    return time.monotonic() - began_s


@pytest.mark.parametrize("place", [nobody, full_backlog, silent_from_the_start])
def test_nobody_there_is_told_soon(place: Callable[[], ContextManager[str]]) -> None:
    with place() as url:
        took_s = seconds_until_given_up(url)
    assert place is nobody or took_s >= HASTY.connect_timeout_s, "it met no silence"
    assert took_s < SOON_S


@pytest.mark.parametrize("said", [b"", OK, OK + LENGTH % 1000 + b"x"])
def test_a_server_that_falls_silent_is_given_up(said: bytes, tmp_path: Path) -> None:
    with TlsServer(tmp_path, silent_after(said)) as server:
        greeted = replace(HASTY, cacert=server.cacert, connect_timeout_s=5.0)
        took_s = seconds_until_given_up(server.url, greeted)
        assert HASTY.read_timeout_s <= took_s < SOON_S
        assert server.seen, "it was asked"
