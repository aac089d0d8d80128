"""Servers and proxies that mean harm: what they say is given byte for byte."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Optional, TypeVar

from ota_cli.host.net import NetSettings
from ota_cli.image.keys import make_server_certificate

OK = b"HTTP/1.1 200 OK\r\n"
BODY = b"content " * 1000
LENGTH = b"Content-Length: %d\r\n\r\n"
FOUND = b"HTTP/1.1 302 Found\r\n"
REST = b"HTTP/1.1 206 Partial Content\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

Talk = Callable[[socket.socket], None]


Served = TypeVar("Served", bound="HostileServer")


class HostileServer:
    """Says what `talk` says to each request, byte for byte. `seen`: the requests."""

    def __init__(self, talk: Talk) -> None:
        self.seen: List[bytes] = []
        self.talk = talk

    def __enter__(self: Served) -> Served:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=20)

    @property
    def url(self) -> str:
        """Below which a client is to ask for files."""
        return f"https://{self.place}/"

    def settings(self) -> NetSettings:
        """How it is to ask."""
        return NetSettings(
            cookies={"session": "s3cret"}, first_backoff_s=0.01, no_progress_timeout_s=0.5
        )

    def _secured(self, plain: socket.socket) -> socket.socket:
        """A connection, before anything is said."""
        return plain

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError), plain:
                plain.settimeout(10)
                with self._secured(plain) as connection:
                    self.seen.append(connection.recv(65536))
                    self.talk(connection)


class TlsServer(HostileServer):
    """The server itself, over TLS."""

    def __init__(self, directory: Path, talk: Talk, pem: Optional[bytes] = None) -> None:
        super().__init__(talk)
        if pem is None:
            pair = make_server_certificate(["127.0.0.1"])
            pem = pair.certificate + pair.key
        self.cacert = directory / "server.pem"
        self.cacert.write_bytes(pem)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.cacert)

    def settings(self) -> NetSettings:
        return replace(super().settings(), cacert=self.cacert)

    def _secured(self, plain: socket.socket) -> socket.socket:
        return self.context.wrap_socket(plain, server_side=True)


class SlowToGreet(TlsServer):
    """Lets each connection wait for its TLS handshake."""

    def _secured(self, plain: socket.socket) -> socket.socket:
        time.sleep(0.25)
        return super()._secured(plain)


class HostileProxy(HostileServer):
    """A proxy, in plain http; the server behind it is never reached."""

    @property
    def url(self) -> str:
        return "https://127.0.0.1:1/"

    def settings(self) -> NetSettings:
        return replace(super().settings(), proxy=f"http://{self.place}")


def says(*pieces: bytes) -> Talk:
    return lambda connection: connection.sendall(b"".join(pieces))


def for_ever(start: bytes, piece: bytes) -> Talk:
    """Sends `piece` again and again, until nobody reads any more."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)

    return talk


def drips(start: bytes, every_s: float = 0.1) -> Talk:
    """A byte now and then: each comes in time, all of them never."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(b"x")
            time.sleep(every_s)

    return talk


#: A body that never ends, each byte of which may be right.
ENDLESS: Dict[str, Talk] = {
    "body": for_ever(OK + b"\r\n", BODY),
    "chunks": for_ever(OK + CHUNKED, b"1f40\r\n" + BODY + b"\r\n"),
}
#: A body, or what belongs to it, that comes so slowly that it never ends.
DRIPPING: Dict[str, Talk] = {
    "dripping-body": drips(OK + LENGTH % 100_000),
    "dripping-chunk-extension": drips(OK + CHUNKED + b"1;x=", every_s=0.01),
    "dripping-trailer": drips(OK + CHUNKED + b"1\r\nx\r\n0\r\nX: ", every_s=0.01),
}
#: What is no answer, or none to what was asked.
SENSELESS: Dict[str, Talk] = {
    "headers": for_ever(OK, b"X-Filler: " + b"x" * 8000 + b"\r\n"),
    "one-header": for_ever(OK + b"X: ", b"x" * 8000),
    "large-header": says(OK, b"X: ", b"x" * 10_000_000, b"\r\n", LENGTH % 1, b"x"),
    "no-http": says(b"\x16\x03 this is no HTTP\r\n\r\n"),
    "silence": says(),
    "too-long": says(OK, LENGTH % (10**15), BODY),
    "negative-length": says(OK, b"Content-Length: -5\r\n\r\n", BODY),
    "two-lengths": says(OK, b"Content-Length: 1\r\n", LENGTH % 8000, BODY),
    "wrong-chunk": says(OK, CHUNKED, b"10\r\nshort\r\n0\r\n\r\n"),
    "gzip": says(OK, b"Content-Encoding: gzip\r\n", LENGTH % 8000, BODY),
    "a-rest": says(REST, b"Content-Range: bytes 5-8004/8005\r\n", LENGTH % 8000, BODY),
    "redirect-loop": says(FOUND, b"Location: /x\r\n", LENGTH % 0),
    "redirect-to-http": says(FOUND, b"Location: http://127.0.0.1/x\r\n", LENGTH % 0),
    "redirect-elsewhere": says(FOUND, b"Location: https://images.example/x\r\n", LENGTH % 0),
}
