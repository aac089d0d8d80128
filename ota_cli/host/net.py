"""Fetching an image's files over HTTP (FORMATS section 2): the one way `ota` talks to a server.

Connections are reused, several downloads are in flight, every body is bounded and checked while
it is written. Environment variables for proxies are ignored: an update must not go where a shell
happened to point. Cookies go to the image's host only and never into a message.
"""

from __future__ import annotations

import queue
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Type, Union
from urllib.parse import urlsplit, urlunsplit

import httpx

from ..core.text import printable
from ..core.urls import base_url, compressed_location, plain_location
from ..errors import AccessDenied, ConfigError, ImageDamaged, OtaError, Unreachable, UsageProblem
from .net_body import Blob, BlobFile
from .net_rate import Throttle
from .net_retry import Again, Liveness, Retry, retry_after_s, unreachable

CHUNK_BYTES = 64 * 1024
MAX_REDIRECTS = 5
_TIMEOUT = httpx.Timeout(connect=10.0, read=30.0, write=30.0, pool=None)
_RETRIED = (408, 429)

Arrived = Callable[[int], None]
Consume = Callable[[bytes], None]


@dataclass(frozen=True)
class NetSettings:
    """How to fetch. `cacert` replaces the system's CAs. `limit_rate`: bytes per second.

    With a `proxy` requests go there in plain http, absolute form; it talks https upstream.
    """

    cacert: Optional[Path] = None
    cert: Optional[Path] = None
    key: Optional[Path] = None
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure_http: bool = False
    proxy: Optional[str] = None
    limit_rate: Optional[int] = None
    connections: int = 32
    no_progress_timeout_s: float = 600.0
    first_backoff_s: float = 0.5


class Fetcher:
    """Fetches files below one base URL. Constructing it does no I/O; use it in a `with` block."""

    def __init__(self, base: str, settings: NetSettings) -> None:
        self.base = base_url(base)
        self._settings = settings
        if self.base.startswith("http://") and not (settings.insecure_http or settings.proxy):
            raise UsageProblem(
                f"{self.base} is plain http", hint="use https, or allow it with --insecure-http"
            )
        self._stop = threading.Event()

    def __enter__(self) -> Fetcher:
        settings = self._settings
        self._client = httpx.Client(
            verify=_tls(settings), trust_env=False, follow_redirects=False, timeout=_TIMEOUT,
            proxy=settings.proxy, headers=self._headers(),
            limits=httpx.Limits(
                max_connections=settings.connections,
                max_keepalive_connections=settings.connections,
            ),
        )  # fmt: skip
        self._throttle = Throttle(settings.limit_rate, self._stop)
        self._liveness = Liveness(time.monotonic())
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._stop.set()
        self._client.close()

    def metadata(self, name: str, limit_bytes: int) -> bytes:
        """The file `name`, at most `limit_bytes` long; callable from several threads.

        Raises Unreachable, AccessDenied, ImageDamaged.
        """
        directives = "no_cache" if self._settings.proxy else ""
        body = bytearray()

        def consume(chunk: bytes) -> None:
            body.extend(chunk)
            if len(body) > limit_bytes:
                raise ImageDamaged(
                    f"{name} is larger than the limit of {limit_bytes} bytes", slug="too-large"
                )

        retry = self._retry()
        while True:
            body.clear()
            try:
                self._get(name, directives, consume, lambda count: None)
                return bytes(body)
            except Again as again:
                retry.after(again)

    def blobs(self, blobs: Sequence[Blob], directory: Path, arrived: Arrived) -> Iterator[Blob]:
        """Fetches `blobs` into `directory`, by hex digest, and yields each verified one.

        `arrived(n)` tells of n bytes from the wire, from any thread. The first failure stops
        all downloads and is raised; so does closing the iterator.
        """
        crew = _Crew(blobs, lambda blob: self._blob(blob, directory, arrived), self._stop)
        yield from crew.run(self._settings.connections)

    def _blob(self, blob: Blob, directory: Path, arrived: Arrived) -> None:
        retry = self._retry()
        while True:
            file = BlobFile(directory, blob)
            try:
                self._get(blob.location, self._directives(blob, retry.wrong), file.feed, arrived)
                file.finish()
                return
            except Again as again:
                retry.after(again, file.fed)
            finally:
                file.close()

    def _directives(self, blob: Blob, wrong: int) -> str:
        """What to tell proxies: the digest first, then to fetch anew, then to stand aside."""
        if not self._settings.proxy:
            return ""
        if wrong > 1:
            return "no_cache"
        words = [f"file_sha256={blob.digest.hex()}"]
        words += ["file_compression_alg=zst"] if blob.compressed else []
        words += ["retry_caching"] if wrong else []
        return ",".join(words)

    def _retry(self) -> Retry:
        settings = self._settings
        return Retry(
            self._liveness, settings.first_backoff_s, settings.no_progress_timeout_s, self._stop
        )

    def _get(self, location: str, directives: str, consume: Consume, arrived: Arrived) -> None:
        """One try of one file. Raises Again for what may pass, OtaError for what will not."""
        url = self._address(self.base + location)
        headers = {"Ota-File-Cache-Control": directives} if directives else {}
        for _ in range(MAX_REDIRECTS + 1):
            following = self._request(url, headers, consume, arrived)
            if not following:
                return
            url = _same_host(url, following)
        raise ImageDamaged(f"{_named(url)}: more than {MAX_REDIRECTS} redirects", slug="redirects")

    def _address(self, url: str) -> str:
        """The URL to ask for; towards a proxy always with http, the port kept."""
        if not self._settings.proxy:
            return url
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        netloc = parts.netloc if parts.port else f"{parts.netloc}:{port}"
        return urlunsplit(("http", netloc, parts.path, "", ""))

    def _request(
        self, url: str, headers: Dict[str, str], consume: Consume, arrived: Arrived
    ) -> str:
        """Asks once; returns where a redirect leads, empty when the body was consumed."""
        host = urlsplit(self.base).netloc
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                if response.is_redirect:
                    return str(response.headers.get("location", ""))
                _check_status(response)
                _check_encoding(response)
                self._consume(response, consume, arrived)
        except httpx.TransportError as error:
            raise _transport_failure(host, error) from error
        except httpx.InvalidURL:
            raise ImageDamaged(f"{_named(url)} is not a usable URL") from None
        return ""

    def _consume(self, response: httpx.Response, consume: Consume, arrived: Arrived) -> None:
        for chunk in response.iter_raw(CHUNK_BYTES):
            self._liveness.saw(len(chunk))
            arrived(len(chunk))
            consume(chunk)
            self._throttle.received(len(chunk))
            if self._stop.is_set():
                raise Unreachable("the download was stopped", slug="stopped")

    def _headers(self) -> Dict[str, str]:
        headers = {"Accept-Encoding": "identity", "User-Agent": "ota"}
        if self._settings.cookies:
            pairs = (f"{name}={value}" for name, value in self._settings.cookies.items())
            headers["Cookie"] = "; ".join(pairs)
        return headers


class _Crew:
    """Threads that work on a list of blobs; results and the first failure come in one queue."""

    def __init__(
        self, blobs: Sequence[Blob], work: Callable[[Blob], None], stop: threading.Event
    ) -> None:
        self._pending = iter(blobs)
        self._work = work
        self._stop = stop
        self._lock = threading.Lock()
        self._done: queue.Queue[Union[Blob, BaseException, None]] = queue.Queue()

    def run(self, most: int) -> Iterator[Blob]:
        threads = [threading.Thread(target=self._loop, daemon=True) for _ in range(most)]
        started: List[threading.Thread] = []
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
            yield from self._results(len(started))
        finally:
            with self._lock:
                self._pending = iter(())
            unfinished = [thread for thread in started if thread.is_alive()]
            if unfinished:
                self._stop.set()
            for thread in unfinished:
                thread.join(timeout=60)

    def _results(self, running: int) -> Iterator[Blob]:
        while running:
            result = self._done.get()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result

    def _loop(self) -> None:
        """Works until nothing is left; every way out puts None or the failure into the queue."""
        try:
            while True:
                with self._lock:
                    blob = next(self._pending, None)
                if blob is None or self._stop.is_set():
                    break
                self._work(blob)
                self._done.put(blob)
            self._done.put(None)
        except BaseException as error:  # noqa: BLE001 (re-raised by the consumer)
            self._done.put(error)


def _tls(settings: NetSettings) -> ssl.SSLContext:
    """Certificates and versions. Raises ConfigError for files that can not be used."""
    try:
        context = ssl.create_default_context(cafile=_text(settings.cacert))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{settings.cacert} holds no usable certificate: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert is not None:
        try:
            context.load_cert_chain(settings.cert, _text(settings.key), _no_password)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{settings.cert} and {settings.key} are no certificate with its key: {error}"
            ) from None
    return context


def _no_password() -> str:
    return ""  # an encrypted key is refused instead of asking on a terminal


def _text(path: Optional[Path]) -> Optional[str]:
    return str(path) if path else None


def _check_status(response: httpx.Response) -> None:
    status, url = response.status_code, _named(str(response.url))
    if status == 200:
        return
    if status in (401, 403):
        raise AccessDenied(
            f"{url}: the server denies access ({status})",
            hint="check the cookies, the client certificate, and whether they have expired",
        )
    if status in (404, 410):
        raise ImageDamaged(
            f"{url} is not on the server ({status})",
            hint="check the URL; if it is right, the image is incomplete",
            slug="missing",
        )
    failure = Unreachable(f"{url}: the server answers {status}", hint="run this again later")
    if status in _RETRIED or status >= 500:
        raise Again(failure, retry_after_s(response.headers.get("retry-after"), time.time()))
    raise ImageDamaged(f"{url}: the server answers {status}", hint="check the URL", slug="refused")


def _check_encoding(response: httpx.Response) -> None:
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ImageDamaged(
            f"{_named(str(response.url))} comes with content-encoding {printable(encoding)}",
            hint="configure the server to send files as they are",
            slug="content-encoding",
        )


def _same_host(url: str, location: str) -> str:
    """Where a redirect leads; only to the same host, scheme and port: cookies stay there."""
    target = httpx.URL(url).join(location)
    origin = httpx.URL(url)
    if (target.scheme, target.host, target.port) != (origin.scheme, origin.host, origin.port):
        raise ImageDamaged(
            f"{_named(url)} redirects to another host, {printable(target.host)}",
            hint="give the URL of the host that has the image",
            slug="redirects",
        )
    return str(target)


def _transport_failure(host: str, error: httpx.TransportError) -> Union[Again, OtaError]:
    cause = _tls_cause(error)
    if cause is not None:
        return Unreachable(
            f"the certificate of {host} is not accepted: {cause}",
            hint="check the host name; a private CA is given with --cacert",
            slug="server-certificate",
        )
    if isinstance(error, httpx.RemoteProtocolError):
        return Again(_truncated(host, error), cut_short=True)
    why = printable(str(error)) or type(error).__name__
    return Again(unreachable(host, why))


def _truncated(host: str, error: httpx.RemoteProtocolError) -> OtaError:
    return ImageDamaged(
        f"{host} ended an answer too early: {printable(str(error))}",
        hint="if it happens again, the image on the server is damaged",
        slug="truncated",
    )


def _tls_cause(error: BaseException) -> Optional[str]:
    """Why a certificate was not accepted, from below the HTTP library's own errors."""
    seen: Optional[BaseException] = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen.verify_message
        seen = seen.__cause__ or seen.__context__
    return None


def _named(url: str) -> str:
    return printable(url.split("?")[0])


__all__ = [
    "Blob", "Fetcher", "NetSettings", "base_url", "compressed_location", "plain_location",
]  # fmt: skip
