"""Requests on kept connections: the HTTP library below `net`, and where a URL leads it.

httpcore, not the httpx on top of it: following redirects, decoding and a jar of cookies are not
wanted here, and cost as much of the processor again for each of thousands of small files.
"""

from __future__ import annotations

import math
import socket
import ssl
import time
from contextlib import AbstractContextManager, closing, contextmanager
from typing import (
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    Union,
)
from urllib.parse import quote, urljoin

import httpcore

from ..core.urls import split_url
from .net_retry import Liveness

_KEEP_ALIVE_S = 30.0
#: In interim answers (1xx) a server could ask for patience for ever.
_ANSWER_S = 60.0
#: What may stand in a request line as it is (RFC 3986); `%`: the rest is encoded already.
_AS_IT_IS = "/%:@!$&'()*+,;=~"
_URL_SIGNS = f"{_AS_IT_IS}?#[]"
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)

#: All that can go wrong below HTTP.
TRANSPORT_ERRORS = (
    httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError,
)  # fmt: skip
TransportError = Union[
    httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError
]
Headers = List[Tuple[bytes, bytes]]


class Target(NamedTuple):
    """Where one request goes: `host` as DNS has it, `authority` as the Host header has it."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str

    @property
    def origin(self) -> Tuple[str, str, int]:
        """What cookies are for."""
        return self.scheme, self.host, self.port

    def url(self) -> httpcore.URL:
        """As the library wants it."""
        return httpcore.URL(
            scheme=self.scheme.encode(), host=self.host.encode(), port=self.port,
            target=self.path.encode(),
        )  # fmt: skip

    def by(self, proxy: Target) -> Target:
        """The request that makes a proxy go there, in plain http; it talks https upstream."""
        return proxy._replace(path=f"http://{self.authority}{self.path}")


def target_of(url: str) -> Optional[Target]:
    """The target of an http or https URL; None for what is none."""
    parts = split_url(url)
    if parts is None or parts.hostname is None:
        return None
    host = parts.hostname
    port = parts.port or _PORTS[parts.scheme]
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port == _PORTS[parts.scheme] else f"{shown}:{port}"
    query = f"?{quote(parts.query, safe=f'{_AS_IT_IS}?')}" if parts.query else ""
    return Target(
        parts.scheme, host, port, authority, quote(parts.path or "/", safe=_AS_IT_IS) + query
    )


def joined(url: str, location: str) -> str:
    """What `location` means in an answer from `url`; empty where it means nothing."""
    try:
        return urljoin(url, location)
    except ValueError:
        return ""


def location_of(response: httpcore.Response) -> Optional[str]:
    """Where a redirect leads; None for other answers."""
    if response.status not in _REDIRECTS:
        return None
    values = _values(response, b"location")
    return quote(values[0], safe=_URL_SIGNS) if values else None


def header(response: httpcore.Response, wanted: bytes) -> Optional[str]:
    """All values of a header, by its name in lower case; None without it."""
    values = _values(response, wanted)
    return b", ".join(values).decode("utf-8", "replace") if values else None


def _values(response: httpcore.Response, wanted: bytes) -> List[bytes]:
    return [value for name, value in response.headers if name.lower() == wanted]


def counted_by(response: httpcore.Response, liveness: Liveness) -> AbstractContextManager[None]:
    """In the block `liveness` is told how long each wait for the body of `response` takes, instead
    of that of its link, and ends them when it is too much."""
    stream: _Stream = response.extensions["network_stream"]
    return stream.counted_by(liveness)


class Link:
    """Connections to one server, or to one proxy, used again; `watch` is told of each socket.

    `receive_bytes`: what of an answer the kernel may hold for each; None: as much as it likes.
    `liveness` is told how long each wait for the server takes, and ends them when it is too much.

    The library's pool is left out: it looks through all connections and waiting requests for
    each request, under one lock, and checks each request twice.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        proxy: Optional[Target],
        timeouts: Tuple[float, float],
        watch: Callable[[socket.socket], None],
        receive_bytes: Optional[int] = None,
        liveness: Optional[Liveness] = None,
    ) -> None:
        connect_s, read_s = timeouts
        limits = {"connect": connect_s, "read": read_s, "write": read_s, "pool": None}
        self._extensions = {"timeout": limits}
        self._context = context
        self._proxy = proxy
        self._backend = _Watched(watch, liveness)
        self._options: List[httpcore.SOCKET_OPTION] = []
        if receive_bytes is not None:
            self._options.append((socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes))
        self._free: Dict[Tuple[str, str, int], List[httpcore.HTTPConnection]] = {}
        self._open: Set[httpcore.HTTPConnection] = set()

    @contextmanager
    def get(self, target: Target, headers: Headers) -> Iterator[httpcore.Response]:
        """Asks for `target`; the connection is free again after the block.

        Raises one of TRANSPORT_ERRORS, and Unreachable as `liveness` does.
        """
        asked = target.by(self._proxy) if self._proxy else target
        named = [(b"Host", target.authority.encode()), *headers]
        request = httpcore.Request(b"GET", asked.url(), headers=named, extensions=self._extensions)
        free = self._free.setdefault(asked.origin, [])
        connection = self._take(free) or self._new(request.url.origin)
        try:
            with closing(connection.handle_request(request)) as response:
                response.extensions["network_stream"].answered()
                yield response
        finally:
            if connection.is_available():
                free.append(connection)
            else:
                self._forget(connection)

    def close(self) -> None:
        """Closes all connections."""
        for connection in list(self._open):
            connection.close()

    def _take(self, free: List[httpcore.HTTPConnection]) -> Optional[httpcore.HTTPConnection]:
        """The connection used last, as servers end idle ones; None where there is none."""
        while free:
            try:
                connection = free.pop()  # one step for all threads: no lock
            except IndexError:
                break
            if not connection.has_expired():
                return connection
            self._forget(connection)
        return None

    def _new(self, origin: httpcore.Origin) -> httpcore.HTTPConnection:
        connection = httpcore.HTTPConnection(
            origin, ssl_context=self._context, keepalive_expiry=_KEEP_ALIVE_S,
            network_backend=self._backend, socket_options=self._options,
        )  # fmt: skip
        self._open.add(connection)
        return connection

    def _forget(self, connection: httpcore.HTTPConnection) -> None:
        connection.close()
        self._open.discard(connection)


@contextmanager
def _counted(liveness: Optional[Liveness], timeout: Optional[float]) -> Iterator[None]:
    """The block waits for the server, `timeout` at most."""
    began_s = time.monotonic()
    try:
        yield
    finally:
        if liveness is not None:
            liveness.waited(began_s, math.inf if timeout is None else timeout)


class _Watched(httpcore.NetworkBackend):
    """The library's own way to connect, which also tells of each socket."""

    def __init__(
        self, watch: Callable[[socket.socket], None], liveness: Optional[Liveness]
    ) -> None:
        self._inner = httpcore.SyncBackend()
        self._watch = watch
        self._liveness = liveness

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Optional[float] = None,
        local_address: Optional[str] = None,
        socket_options: Optional[Iterable[httpcore.SOCKET_OPTION]] = None,
    ) -> httpcore.NetworkStream:
        with _counted(self._liveness, timeout):
            stream = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._watch, self._liveness)


class _Stream(httpcore.NetworkStream):
    def __init__(
        self,
        inner: httpcore.NetworkStream,
        watch: Callable[[socket.socket], None],
        liveness: Optional[Liveness],
    ) -> None:
        self._inner = inner
        self._watch = watch
        self._liveness = liveness
        self._asked_s: Optional[float] = None
        watch(inner.get_extra_info("socket"))

    def answered(self) -> None:
        """The head of an answer came: from now on each read has its own time limit only."""
        self._asked_s = None

    @contextmanager
    def counted_by(self, liveness: Liveness) -> Iterator[None]:
        """In the block it is `liveness` that is told of each wait, and may end it."""
        before, self._liveness = self._liveness, liveness
        try:
            yield
        finally:
            self._liveness = before

    def read(self, max_bytes: int, timeout: Optional[float] = None) -> bytes:
        if self._asked_s is not None and time.monotonic() - self._asked_s > _ANSWER_S:
            raise httpcore.ReadTimeout(f"no answer within {_ANSWER_S:.0f} s")
        if self._liveness is not None:
            self._liveness.reads()
        with _counted(self._liveness, timeout):
            return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: Optional[float] = None) -> None:
        self._inner.write(buffer, timeout)
        self._asked_s = time.monotonic()

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> httpcore.NetworkStream:
        with _counted(self._liveness, timeout):
            inner = self._inner.start_tls(ssl_context, server_hostname, timeout)
        return _Stream(inner, self._watch, self._liveness)

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)
