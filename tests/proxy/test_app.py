"""What a client of the proxy gets, whatever the cache has room for."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

from ota_cli.proxy.app import Allowed, Body, Proxy
from ota_cli.proxy.cache import Cache, Limits
from ota_cli.proxy.counts import Counts
from ota_cli.proxy.flight import CutShort
from ota_cli.proxy.upstream import Upstream
from tests.support.hostile import CHUNKED, LENGTH, OK, Talk, TlsServer, for_ever, says

LIMITS = Limits(soft_bytes=1_000_000, hard_bytes=1_500_000)
LARGE = os.urandom(3_000_000)
WITH_LENGTH = (OK, LENGTH % len(LARGE), LARGE)
IN_CHUNKS = (OK, CHUNKED, b"%x\r\n%s\r\n" % (len(LARGE), LARGE), b"0\r\n\r\n")


class Client:
    """Asks the application, without a server around it."""

    def __init__(self, server: TlsServer, directory: Path, upstream: Upstream) -> None:
        self.server = server
        self.cache = directory
        self.store, self.counts = Cache(directory, LIMITS), Counts()
        allowed = Allowed(frozenset(["127.0.0.1"]), {server.place: "https"})
        self._proxy = Proxy(
            allowed, upstream, self.store, self.counts,
            lambda work: threading.Thread(target=work).start(),
        )  # fmt: skip

    def ask(self, digest: str) -> Tuple[str, Body]:
        """What `X-Cache` says, and the body, which is to be closed."""
        told: Dict[str, str] = {}

        def start(status: str, headers: List[Tuple[str, str]]) -> None:
            assert status.startswith("200"), status
            told.update(headers)

        environ = {
            "REMOTE_ADDR": "127.0.0.1", "REQUEST_METHOD": "GET",
            "REQUEST_URI": f"http://{self.server.place}/x",
            "HTTP_OTA_FILE_CACHE_CONTROL": f"file_sha256={digest}",
        }  # fmt: skip
        body = self._proxy(environ, start)
        assert isinstance(body, Body)
        return told["X-Cache"], body

    def fetch(self, digest: str) -> Tuple[str, bytes]:
        """The same, the whole body."""
        outcome, body = self.ask(digest)
        with closing(body):
            return outcome, b"".join(body)


@contextmanager
def client_of(directory: Path, talk: Talk) -> Iterator[Client]:
    cache = directory / "cache"
    cache.mkdir()
    with TlsServer(directory, talk) as server, Upstream(server.settings()) as upstream:
        yield Client(server, cache, upstream)


def test_an_object_that_the_cache_can_not_hold_is_passed_on_and_none_goes_for_it(
    tmp_path: Path,
) -> None:
    with client_of(tmp_path, says(OK, LENGTH % 7, b"content")) as client:
        assert client.fetch("a" * 64) == ("miss", b"content")
        client.server.talk = says(*WITH_LENGTH)
        for _ in range(2):
            assert client.fetch("b" * 64) == ("none", LARGE)
        assert client.fetch("a" * 64) == ("hit", b"content")


def test_one_whose_length_is_not_told_is_passed_on_once_that_is_known(tmp_path: Path) -> None:
    with client_of(tmp_path, says(*IN_CHUNKS)) as client:
        with pytest.raises(CutShort):
            client.fetch("a" * 64)
        assert client.fetch("a" * 64) == ("none", LARGE)


def test_a_cache_that_was_full_for_a_moment_keeps_the_object_the_next_time(tmp_path: Path) -> None:
    content = LARGE[:900_000]
    with client_of(tmp_path, says(OK, LENGTH % len(content), content)) as client:
        assert client.store.reserve(900_000)
        with suppress(CutShort):
            client.fetch("a" * 64)
        client.store.give_back(900_000)
        assert client.fetch("a" * 64) == ("miss", content)
        assert client.fetch("a" * 64) == ("hit", content)


def test_a_body_without_end_is_left_when_nobody_waits_for_it(tmp_path: Path) -> None:
    piece = b"2\r\nxx\r\n"
    with client_of(tmp_path, for_ever(OK + CHUNKED + piece, piece)) as client:
        _, body = client.ask("a" * 64)
        with closing(body):
            assert next(iter(body)).startswith(b"xx")
        until_s = time.monotonic() + 30
        while list(client.cache.iterdir()):
            assert time.monotonic() < until_s, "it is fetched all the same"
            time.sleep(0.01)
