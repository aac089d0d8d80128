"""Servers and proxies that mean harm: little is read of them, and nothing is believed."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import socket
import ssl
import time
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Iterator, Optional, Tuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ota_cli.entries import Digest
from ota_cli.errors import ImageDamaged, OtaError, Unreachable
from ota_cli.host.net import Blob, Fetcher
from ota_cli.host.net_answer import MAX_REDIRECTS
from ota_cli.host.net_retry import Liveness
from ota_cli.host.net_tls import tls_context
from tests.support.hostile import (
    BODY,
    DRIPPING,
    ENDLESS,
    LENGTH,
    OK,
    REST,
    SENSELESS,
    HostileProxy,
    HostileServer,
    SlowToGreet,
    TlsServer,
    says,
)

#: What is not tried again.
FINAL = {*ENDLESS, "gzip", "a-rest", *(name for name in SENSELESS if name.startswith("redirect"))}


def refusal(server: HostileServer) -> OtaError:
    """How fetching a file of metadata from it ends, in little memory."""
    tracemalloc.start()
    with Fetcher(server.url, server.settings()) as fetcher, pytest.raises(OtaError) as raised:
        fetcher.metadata("x", 100_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30_000_000, "also of the 10 MB that the server itself holds"
    assert raised.value.hint
    return raised.value


@pytest.fixture(params=["directly", "by-proxy"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HostileServer]:
    """A server, or a proxy before one, that says nothing yet."""
    directly = request.param == "directly"
    with TlsServer(tmp_path, says()) if directly else HostileProxy(says()) as server:
        yield server


@pytest.mark.parametrize("name", [*ENDLESS, *SENSELESS])
def test_what_has_no_end_or_no_sense_is_given_up(name: str, hostile: HostileServer) -> None:
    hostile.talk = {**ENDLESS, **SENSELESS}[name]
    assert isinstance(refusal(hostile), ImageDamaged) == (name in FINAL)
    asked = [request.partition(b" HTTP/1.1")[0] for request in hostile.seen]
    assert set(asked) <= {b"GET /x", b"GET http://127.0.0.1:1/x"}, "nothing of another server"
    assert len(asked) <= (1 + MAX_REDIRECTS if name in FINAL else 100)


@pytest.mark.parametrize("name", DRIPPING)
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    name: str, hostile: HostileServer
) -> None:
    hostile.talk = DRIPPING[name]
    found = refusal(hostile)
    assert (found.slug, found.exit_code) == ("too-slow", 69)


def test_a_server_that_ends_each_connection_after_a_little_more_is_given_up(tmp_path: Path) -> None:
    """Each try gets further than the one before, so none of them is in vain."""
    content = os.urandom(100_000)

    def talk(connection: socket.socket) -> None:
        asked = re.search(rb"range: bytes=(\d+)-", server.seen[-1], re.IGNORECASE)
        if asked is None:
            connection.sendall(OK + LENGTH % len(content) + content[:70_000])
            return
        start = int(asked[1])
        time.sleep(0.2)
        span = b"Content-Range: bytes %d-%d/%d\r\n" % (start, len(content) - 1, len(content))
        head = b"HTTP/1.1 206 Partial Content\r\n" + span + LENGTH % (len(content) - start)
        connection.sendall(head + content[start : start + 1])

    with TlsServer(tmp_path, talk) as server:
        found, asked = failure_of_a_blob(server, content, tmp_path)
    assert found.slug == "too-slow"
    assert asked < 20


def test_a_process_that_was_stopped_for_long_does_not_blame_the_server() -> None:
    liveness = Liveness(patience_s=60.0)
    liveness.waited(time.monotonic() - 100_000, at_most_s=30)
    liveness.saw_bytes(1)
    liveness.waited(time.monotonic() - 25, at_most_s=30)  # nearly all of it was counted just now
    liveness.saw_bytes(1)


def test_a_connection_that_takes_long_is_time_waited_for_the_server(tmp_path: Path) -> None:
    """The server is quick once it is reached, and ends each connection after a few bytes."""
    content = os.urandom(200_000)

    def talk(connection: socket.socket) -> None:
        asked = re.search(rb"range: bytes=(\d+)-", server.seen[-1], re.IGNORECASE)
        start = int(asked[1]) if asked else 0
        span = b"Content-Range: bytes %d-%d/%d\r\n" % (start, len(content) - 1, len(content))
        head = b"HTTP/1.1 206 Partial Content\r\n" + span if asked else OK
        size = 2 if asked else 70_000
        body = LENGTH % (len(content) - start) + content[start : start + size]
        connection.sendall(head + body)

    with SlowToGreet(tmp_path, talk) as server:
        found, asked = failure_of_a_blob(server, content, tmp_path)
    assert found.slug == "too-slow"
    assert asked < 40


def test_the_pauses_that_a_server_asks_for_are_time_waited_for_it(tmp_path: Path) -> None:
    content = os.urandom(200_000)

    def talk(connection: socket.socket) -> None:
        asked = re.search(rb"range: bytes=(\d+)-", server.seen[-1], re.IGNORECASE)
        start = int(asked[1]) if asked else 0
        if asked and len(server.seen) % 2:
            connection.sendall(b"HTTP/1.1 503 Wait\r\nRetry-After: 1\r\n" + LENGTH % 0)
            return
        span = b"Content-Range: bytes %d-%d/%d\r\n" % (start, len(content) - 1, len(content))
        head = b"HTTP/1.1 206 Partial Content\r\n" + span if asked else OK
        body = LENGTH % (len(content) - start) + content[start : start + (2 if asked else 70_000)]
        connection.sendall(head + body)

    with TlsServer(tmp_path, talk) as server:
        found, asked = failure_of_a_blob(server, content, tmp_path, patience_s=2.5)
    assert found.slug == "too-slow"
    assert asked < 20


def failure_of_a_blob(
    server: HostileServer, content: bytes, at: Path, patience_s: float = 0.5
) -> Tuple[OtaError, int]:
    """How fetching `content` in the end fails, and after how many requests."""
    blob = Blob(Digest(hashlib.sha256(content).digest()), len(content), "x", False)
    out = at / "out"
    out.mkdir()
    settings = replace(server.settings(), no_progress_timeout_s=patience_s)
    with Fetcher(server.url, settings) as fetcher, pytest.raises(OtaError) as raised:
        list(fetcher.blobs([blob], out, lambda count: None))
    return raised.value, len(server.seen)


def test_a_slow_server_is_not_one_that_drips(tmp_path: Path) -> None:
    """All of it takes longer than the patience, but it comes."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(OK + LENGTH % len(BODY))
        for start in range(0, len(BODY), 400):
            connection.sendall(BODY[start : start + 400])
            time.sleep(0.05)

    with TlsServer(tmp_path, talk) as server, Fetcher(server.url, server.settings()) as fetcher:
        assert fetcher.metadata("x", 100_000) == BODY


@pytest.mark.parametrize("more", [b"", b"x" * 100_000])
def test_a_file_is_what_was_signed_or_nothing(
    more: bytes, hostile: HostileServer, tmp_path: Path
) -> None:
    wrong = BODY[:-1] + b"!" + more
    blob = Blob(Digest(hashlib.sha256(BODY).digest()), len(BODY), "x", False)
    out = tmp_path / "out"
    out.mkdir()
    hostile.talk = says(OK, LENGTH % len(wrong), wrong)
    with Fetcher(hostile.url, hostile.settings()) as fetcher, pytest.raises(ImageDamaged):
        list(fetcher.blobs([blob], out, lambda count: None))
    assert not [path for path in out.iterdir() if path.read_bytes() == wrong[: len(BODY)]]


@pytest.mark.parametrize("span", ["70001-99999/100000", "70000-99999/99999", "0-99999/100000", "x"])
def test_another_part_of_a_file_than_the_rest_is_not_taken(
    span: str, hostile: HostileServer, tmp_path: Path
) -> None:
    content = os.urandom(100_000)

    def talk(connection: socket.socket) -> None:
        if b"range: bytes=" in hostile.seen[-1].lower():
            head = REST + f"Content-Range: bytes {span}\r\n".encode()
            connection.sendall(head + LENGTH % 30_000 + content[70_000:])
        else:
            connection.sendall(OK + LENGTH % len(content) + content[:70_000])

    hostile.talk = talk
    found, asked = failure_of_a_blob(hostile, content, tmp_path)
    assert found.slug == "cut-short"
    assert asked < 20


def test_a_redirect_to_plain_http_is_not_followed_and_gets_no_cookie(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        to = f"Location: http://127.0.0.1:{plain.getsockname()[1]}/x\r\n".encode()
        talk = says(b"HTTP/1.1 302 Found\r\n", to, LENGTH % 0)
        with TlsServer(tmp_path, talk) as server:
            assert refusal(server).exit_code == 12
            assert b"s3cret" in server.seen[0]
        plain.settimeout(0)
        with pytest.raises(BlockingIOError):
            plain.accept()


def test_no_tls_older_than_1_2_is_spoken_whatever_the_systems_default() -> None:
    assert tls_context(None, None, None).minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_an_old_tls_is_refused(tmp_path: Path) -> None:
    server = TlsServer(tmp_path, says(OK, LENGTH % len(BODY), BODY))
    speak_old_tls(server.context)
    with server:
        if spoken_with(server) is None:
            pytest.skip("this OpenSSL speaks no TLS 1.1 even at SECLEVEL=0")
        server.seen.clear()
        error = refusal(server)
        assert isinstance(error, Unreachable)
        assert server.seen == []


def speak_old_tls(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1


def spoken_with(server: TlsServer) -> Optional[str]:
    """The version of TLS it speaks with a client that takes any; None where they can not."""
    lax = ssl.create_default_context(cafile=str(server.cacert))
    speak_old_tls(lax)
    port = int(server.url.split(":")[2].strip("/"))
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    with plain, suppress(ssl.SSLError), lax.wrap_socket(
        plain, server_hostname="127.0.0.1"
    ) as connection:
        connection.sendall(b"GET /x HTTP/1.1\r\n\r\n")
        connection.recv(1)
        return connection.version()
    return None


def test_an_expired_server_certificate_is_refused(tmp_path: Path) -> None:
    now = datetime.now(timezone.utc)
    pem = server_pem(now - timedelta(days=2), now - timedelta(days=1))
    with TlsServer(tmp_path, says(OK, LENGTH % len(BODY), BODY), pem) as server:
        error = refusal(server)
        assert (error.exit_code, error.slug) == (69, "server-certificate")
        assert "expired" in error.message
        assert server.seen == [], "no cookie was sent"


def server_pem(begin: datetime, end: datetime) -> bytes:
    """A self-signed server certificate for the loopback, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "old")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = x509.CertificateBuilder(name, name, key.public_key(), 5, begin, end)
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem) + key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
