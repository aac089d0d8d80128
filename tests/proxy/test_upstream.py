"""What the proxy asks servers, and proxies, for that mean harm."""

from __future__ import annotations

import hashlib
import socket
import tracemalloc
from pathlib import Path
from typing import Iterator

import pytest

from ota_cli.entries import Digest
from ota_cli.errors import OtaError
from ota_cli.host.net import Blob, Fetcher, NetSettings
from ota_cli.host.net_link import target_of
from ota_cli.proxy.upstream import Upstream
from ota_cli.proxy.wanted import Refused, Wanted
from tests.support.bench import make_device
from tests.support.hostile import (
    BODY,
    DRIPPING,
    ENDLESS,
    LENGTH,
    OK,
    SENSELESS,
    HostileProxy,
    HostileServer,
    TlsServer,
    says,
)
from tests.support.proxy import RunningProxy

#: More than may wait in memory.
MUCH = 40_000_000


@pytest.fixture(params=["server", "next-proxy"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HostileServer]:
    """What the proxy asks, which says nothing yet."""
    is_server = request.param == "server"
    with TlsServer(tmp_path, says()) if is_server else HostileProxy(says()) as server:
        yield server


def count_of_body(server: HostileServer) -> int:
    """How many bytes come of it, up to `MUCH`, in little memory."""
    target = target_of(f"{server.url}x")
    assert target is not None
    count = 0
    tracemalloc.start()
    try:
        with Upstream(server.settings()) as upstream, upstream.get(Wanted(target, None)) as got:
            for chunk in upstream.chunks(got):
                count += len(chunk)
                if count > MUCH:
                    break
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 30_000_000, "also of the 10 MB that the server itself holds"
    return count


def refusal(server: HostileServer) -> Refused:
    """What its answer ends in."""
    with pytest.raises(Refused) as raised:
        count_of_body(server)
    return raised.value


@pytest.mark.parametrize("name", SENSELESS)
def test_what_makes_no_sense_is_a_bad_gateway(name: str, hostile: HostileServer) -> None:
    hostile.talk = SENSELESS[name]
    assert refusal(hostile).status == 502
    asked = {request.partition(b" HTTP/1.1")[0] for request in hostile.seen}
    assert asked <= {b"GET /x", b"GET http://127.0.0.1:1/x"}, "nothing of another server"


@pytest.mark.parametrize("name", ENDLESS)
def test_a_body_without_an_end_is_passed_on_as_it_comes(name: str, hostile: HostileServer) -> None:
    hostile.talk = ENDLESS[name]
    assert count_of_body(hostile) > MUCH


@pytest.mark.parametrize("name", DRIPPING)
def test_a_body_that_drips_is_given_up(name: str, hostile: HostileServer) -> None:
    hostile.talk = DRIPPING[name]
    found = refusal(hostile)
    assert found.status == 502
    assert "less than 8 bytes came in 0.5 seconds" in found.why


def test_a_body_in_a_content_encoding_is_refused(hostile: HostileServer) -> None:
    hostile.talk = SENSELESS["gzip"]
    assert "content-encoding gzip" in refusal(hostile).why


def test_the_proxy_outlives_all_of_them_and_keeps_nothing(tmp_path: Path) -> None:
    gateway = make_device(tmp_path / "gateway", [], settings="no_progress_timeout: 1\n")
    out = tmp_path / "out"
    out.mkdir()
    blob = Blob(Digest(hashlib.sha256(BODY).digest()), len(BODY), "x", False)
    with TlsServer(tmp_path, says()) as server, RunningProxy(
        gateway, server.url, "--cacert", server.cacert
    ) as proxy:
        net = NetSettings(proxy=proxy.url, first_backoff_s=0.01, no_progress_timeout_s=0.1)
        for server.talk in (*SENSELESS.values(), *ENDLESS.values()):
            with Fetcher(server.url, net) as client, pytest.raises(OtaError):
                client.metadata("x", 100_000)
        for server.talk in SENSELESS.values():
            with Fetcher(server.url, net) as client, pytest.raises(OtaError):
                list(client.blobs([blob], out, lambda count: None))
        assert list((gateway / "var/cache/ota").iterdir()) == []
        server.talk = says(OK, LENGTH % len(BODY), BODY)
        with Fetcher(server.url, net) as client:
            assert list(client.blobs([blob], out, lambda count: None)) == [blob]


def test_no_server_is_asked_in_plain_http_unless_that_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        target = target_of(f"http://127.0.0.1:{plain.getsockname()[1]}/x")
        assert target is not None
        with Upstream(NetSettings(cookies={"s": "cret"})) as upstream, pytest.raises(
            Refused
        ) as raised, upstream.get(Wanted(target, None)):
            pass
        assert (raised.value.status, "plain http" in raised.value.why) == (502, True)
        plain.settimeout(0)
        with pytest.raises(BlockingIOError):
            plain.accept()
