"""A TLS development server for image directories: one command to try an update end to end.

It serves GET and HEAD of regular files, with single byte ranges, over HTTP/1.1 keep-alive, with
a certificate made for this one run. Not for production: use nginx or a CDN there.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Optional, Tuple, Type
from urllib.parse import unquote, urlsplit

from ..core.text import printable
from ..errors import ConfigError
from ..host.files import temporary_directory
from .keys import KeyPair, make_server_certificate

_CHUNK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class DevServer:
    """Serves `directory` in background threads while its `with` block runs.

    `url` is its base URL, `cacert` the file to give to `--cacert`. Raises ConfigError when the
    address can not be used.
    """

    def __init__(self, directory: Path, address: str = "127.0.0.1", port: int = 0) -> None:
        self._directory = directory
        self._address = address
        self._port = port

    def __enter__(self) -> DevServer:
        pair = _certificate(self._address)
        self._temporary = temporary_directory("ota-serve-")
        directory = Path(self._temporary.name)
        self.cacert = directory / "cacert.pem"
        self.cacert.write_bytes(pair.certificate)
        (directory / "key.pem").write_bytes(pair.key)
        try:
            self._server = _server(self._directory, self._address, self._port)
        except OSError as error:
            self._temporary.cleanup()
            raise ConfigError(
                f"can not serve on {self._address}:{self._port}: {error.strerror}",
                hint="choose another --address or --port",
            ) from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.cacert, directory / "key.pem")
        self._server.context = context
        host, port = self._server.server_address[:2]
        self.url = f"https://{host!s}:{port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._temporary.cleanup()


def _certificate(address: str) -> KeyPair:
    try:
        return make_server_certificate([address, "localhost"])
    except ValueError:
        raise ConfigError(
            f"no certificate can name {printable(address)!r}", hint="choose another --address"
        ) from None


def _server(directory: Path, address: str, port: int) -> _TlsServer:
    handler = type("_Handler", (_Handler,), {"directory": directory.resolve()})
    return _TlsServer((address, port), handler)


class _TlsServer(ThreadingHTTPServer):
    """Does each TLS handshake in the connection's own thread: a slow client blocks nobody."""

    daemon_threads = True
    request_queue_size = 128
    context: ssl.SSLContext

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        request.settimeout(60)
        try:
            secured = self.context.wrap_socket(request, server_side=True)
        except (ssl.SSLError, OSError):
            return  # not a TLS client, or one that does not trust us: its own error tells
        with secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no event of ours."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ota-image-serve"
    sys_version = ""
    directory: Path

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (base class name)
        """Quiet: the client reports."""

    def _answer(self, with_body: bool) -> None:
        try:
            stream = open(self._file(), "rb")  # noqa: SIM115 (closed below, after the headers)
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with stream:
            size = os.fstat(stream.fileno()).st_size
            span = _span(self.headers.get("Range"), size)
            if span is None:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                return
            self._headers(span, size)
            if with_body:
                stream.seek(span[0])
                self._send(stream, span[1] - span[0])

    def _file(self) -> Path:
        """The file a URL names. Raises FileNotFoundError for what is outside or no file."""
        names = unquote(urlsplit(self.path).path, errors="surrogateescape").split("/")
        if any(name in (".", "..") or "\0" in name for name in names):
            raise FileNotFoundError
        path = self.directory.joinpath(*[name for name in names if name])
        if path.is_symlink() or not path.is_file():
            raise FileNotFoundError
        return path

    def _headers(self, span: Tuple[int, int], size: int) -> None:
        partial = span != (0, size)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(span[1] - span[0]))
        self.send_header("Accept-Ranges", "bytes")
        if partial:
            self.send_header("Content-Range", f"bytes {span[0]}-{span[1] - 1}/{size}")
        self.end_headers()

    def _send(self, stream: BinaryIO, count: int) -> None:
        while count:
            chunk = stream.read(min(count, _CHUNK_BYTES))
            if not chunk:
                self.close_connection = True
                return
            self.wfile.write(chunk)
            count -= len(chunk)

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _span(header: Optional[str], size: int) -> Optional[Tuple[int, int]]:
    """Start and end of what is asked for; None for a range outside of the file (RFC 9110, 14)."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.group(0) == "bytes=-":
        return 0, size
    first, last = match.groups()
    if not first:
        return (max(size - int(last), 0), size) if int(last) else None
    start, end = int(first), min(int(last) + 1 if last else size, size)
    return (start, end) if start < end else None
