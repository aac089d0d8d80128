"""Servers that mean harm, over real TLS: what they say is given byte for byte."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, List, Optional

from ota_cli.host.net import NetSettings
from ota_cli.image.keys import make_server_certificate

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

Talk = Callable[[ssl.SSLSocket], None]


class TlsServer:
    """Says what `talk` says to each request, byte for byte. `seen`: the requests."""

    def __init__(self, directory: Path, talk: Talk, pem: Optional[bytes] = None) -> None:
        if pem is None:
            pair = make_server_certificate(["127.0.0.1"])
            pem = pair.certificate + pair.key
        self.cacert = directory / "server.pem"
        self.cacert.write_bytes(pem)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.cacert)
        self.seen: List[bytes] = []
        self._talk = talk

    def __enter__(self) -> TlsServer:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=20)

    def _greet(self) -> None:
        """Before a connection is answered."""

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError), plain:
                plain.settimeout(10)
                self._greet()
                with self.context.wrap_socket(plain, server_side=True) as connection:
                    self.seen.append(connection.recv(65536))
                    self._talk(connection)

    def settings(self) -> NetSettings:
        return NetSettings(
            cacert=self.cacert, cookies={"session": "s3cret"}, first_backoff_s=0.01,
            no_progress_timeout_s=0.5,
        )  # fmt: skip


class SlowToGreet(TlsServer):
    """Lets each connection wait for its TLS handshake."""

    def _greet(self) -> None:
        time.sleep(0.25)


def says(*pieces: bytes) -> Talk:
    return lambda connection: connection.sendall(b"".join(pieces))


def for_ever(start: bytes, piece: bytes) -> Talk:
    """Sends `piece` again and again, until nobody reads any more."""

    def talk(connection: ssl.SSLSocket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)

    return talk


def drips(start: bytes, every_s: float = 0.1) -> Talk:
    """A byte now and then: each comes in time, all of them never."""

    def talk(connection: ssl.SSLSocket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(b"x")
            time.sleep(every_s)

    return talk
