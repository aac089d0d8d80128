"""A scriptable TLS server: each path has a list of answers, given one after the other."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from ota_cli.image.keys import make_server_certificate


@dataclass(frozen=True)
class Answer:
    """One answer. `cut`: so many bytes are sent of what is asked for, then the connection ends.

    `ranges`: what is asked for may be the rest of the body, from some byte on.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: Optional[int] = None
    ranges: bool = False

    def to(self, asked: Mapping[str, str]) -> Answer:
        """This answer as a server gives it that is asked with such headers (RFC 9110, 14)."""
        found = re.fullmatch(r"bytes=(\d+)-", asked.get("range", ""))
        version = asked.get("if-range")
        if not (self.ranges and found) or version not in (None, self.headers.get("ETag")):
            return self
        start, total = int(found[1]), len(self.body)
        if start >= total:
            return Answer(status=416, headers={"Content-Range": f"bytes */{total}"})
        headers = {**self.headers, "Content-Range": f"bytes {start}-{total - 1}/{total}"}
        return Answer(self.body[start:], 206, headers, self.cut)


@dataclass(frozen=True)
class Seen:
    """One request as it came: its target, headers, and which connection it used."""

    target: str
    headers: Mapping[str, str]
    connection: Tuple[str, int]


class WebServer:
    """Answers from `script`; the last answer of a path is repeated. `tls=False`: plain http.

    `client_ca`: certificate that must have issued the client's.
    """

    def __init__(
        self, directory: Path, *, tls: bool = True, client_ca: Optional[Path] = None
    ) -> None:
        self.script: Dict[str, List[Answer]] = {}
        self.seen: List[Seen] = []
        self._lock = threading.Lock()
        self._tls = tls
        self._directory = directory
        self._client_ca = client_ca

    def __enter__(self) -> WebServer:
        outer = self

        class Handler(_Handler):
            owner = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.cacert = self._directory / f"server-{port}.pem"
        if self._tls:
            self._server.socket = self._context().wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, target: str) -> Answer:
        with self._lock:
            answers = self.script.get(target, [Answer(status=404)])
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def _context(self) -> ssl.SSLContext:
        pair = make_server_certificate(["127.0.0.1"])
        self.cacert.write_bytes(pair.certificate)
        key = self.cacert.with_suffix(".key")
        key.write_bytes(pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cacert, key)
        if self._client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._client_ca)
        return context


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: WebServer

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.owner.seen.append(Seen(self.path, headers, self.client_address))
        answer = self.owner.answer(self.path).to(headers)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if answer.cut is not None:
            self.wfile.write(answer.body[: answer.cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
        """Quiet."""
