"""What the proxy asks servers for, of servers that mean harm."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ota_cli.host.net import NetSettings
from ota_cli.host.net_link import target_of
from ota_cli.proxy.upstream import Upstream
from ota_cli.proxy.wanted import Refused, Wanted
from tests.support.hostile import CHUNKED, LENGTH, OK, Talk, TlsServer, drips, says


def body_from(server: TlsServer) -> bytes:
    target = target_of(f"{server.url}x")
    assert target is not None
    with Upstream(server.settings()) as upstream, upstream.get(Wanted(target, None)) as response:
        return b"".join(upstream.chunks(response))


@pytest.mark.parametrize(
    "talk",
    [
        drips(OK + LENGTH % 1_000_000),
        drips(OK + CHUNKED + b"1;x=", every_s=0.01),
        drips(OK + CHUNKED + b"1\r\nx\r\n0\r\nX: ", every_s=0.01),
    ],
    ids=["body", "chunk-extension", "trailer"],
)
def test_a_body_that_drips_is_given_up(talk: Talk, tmp_path: Path) -> None:
    with TlsServer(tmp_path, talk) as server, pytest.raises(Refused) as raised:
        body_from(server)
    assert raised.value.status == 502
    assert "less than 8 bytes came in 0.5 seconds" in raised.value.why


def test_a_body_in_a_content_encoding_is_refused(tmp_path: Path) -> None:
    packed = says(OK, b"Content-Encoding: gzip\r\n", LENGTH % 4, b"gzip")
    with TlsServer(tmp_path, packed) as server, pytest.raises(Refused) as raised:
        body_from(server)
    assert (raised.value.status, "content-encoding gzip" in raised.value.why) == (502, True)


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
