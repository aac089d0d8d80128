"""Fetching an image's files over HTTP (FORMATS section 2): the one way `ota` talks to a server.

Connections are reused, several downloads are in flight, every body is bounded and checked while
it is written. Environment variables for proxies are ignored: an update must not go where a shell
happened to point. Cookies go to the image's host only, through the configured proxy if there is
one, and never into a message.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import (
    Callable,
    Generator,
    Iterator,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
)
from urllib.parse import quote, urlsplit

import httpcore

from ..core.text import printable, size
from ..core.urls import base_url, compressed_location, plain_location, split_url, without_secrets
from ..errors import ConfigError, ImageDamaged, UsageProblem
from .net_answer import (
    MAX_REDIRECTS,
    check_answer,
    redirected,
    too_many_redirects,
    transport_failure,
)
from .net_crew import Halt, Many, nothing_else, work_through
from .net_download import Download
from .net_headers import usual_headers
from .net_link import TRANSPORT_ERRORS, Headers, Link, Target, location_of, target_of
from .net_rate import Throttle
from .net_retry import SLOWEST_RATE, Again, Liveness, Retry
from .net_staging import Blob, Staging
from .net_tls import tls_context
from .net_unpack import MEMORY_BYTES, Budget, MoreMemory, Share

MAX_URL = 8000
_READ_BYTES = 64 * 1024
#: With a limit, no more than this may run ahead of it in the kernel, where a kill loses it.
_SLOWED_BYTES = 64 * 1024
_METADATA_THREADS = 8

Arrived = Callable[[int], None]
Consume = Callable[[bytes], None]


class Receiver(NamedTuple):
    """Who takes an answer. `headers`: sent for it. `accept`: raises unless its body is wanted."""

    headers: Headers
    accept: Callable[[httpcore.Response, str], None]
    consume: Consume
    arrived: Arrived


@dataclass(frozen=True)
class NetSettings:
    """How to fetch.

    `cacert` replaces the system's CAs. `proxy`: `http://host:port`; requests then go there in
    plain http, absolute form, and it talks https upstream. `limit_rate`: bytes per second of all
    downloads together. `first_backoff_s`: the first pause before another try, then doubled.
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
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    first_backoff_s: float = 0.5


class Fetcher:
    """Fetches files below one base URL. Constructing it does no I/O; use it in a `with` block.

    Once a call failed or was broken off the others end as well: make a new one to go on.
    Raises UsageProblem and ConfigError for settings that can not be used.
    """

    def __init__(self, base: str, settings: NetSettings) -> None:
        self.base = base_url(base)
        self._settings = settings
        self._proxy = proxy_url(settings.proxy) if settings.proxy else None
        if self.base.startswith("http://") and not (settings.insecure_http or self._proxy):
            raise UsageProblem(
                f"{printable(self.base)} is plain http",
                hint="use https, or allow it with --insecure-http",
            )
        self._base = _target(self.base)
        self._headers = usual_headers(settings.cookies)
        self._peer = f"the proxy {self._proxy}" if self._proxy else urlsplit(self.base).netloc
        self._halt = Halt()
        self._throttle = Throttle(settings.limit_rate, self._halt.event)
        self._liveness = Liveness(settings.no_progress_timeout_s, _slowest_rate(settings))
        self._memory = Budget(MEMORY_BYTES)

    def __enter__(self) -> Fetcher:
        settings = self._settings
        proxy = target_of(self._proxy) if self._proxy else None
        self._link = Link(
            tls_context(settings.cacert, settings.cert, settings.key), proxy,
            (settings.connect_timeout_s, settings.read_timeout_s), self._halt.watch,
            _SLOWED_BYTES if settings.limit_rate else None, self._liveness,
        )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._halt.now()
        self._link.close()

    def metadata(self, name: str, limit_bytes: int) -> bytes:
        """The file `name`, at most `limit_bytes` long.

        Raises Unreachable, AccessDenied, and ImageDamaged.
        """
        return self._metadata(name, _bounded([name], limit_bytes))

    def metadata_files(
        self, names: Sequence[str], limit_bytes: int, together_bytes: Optional[int] = None
    ) -> Iterator[Tuple[str, bytes]]:
        """Like `metadata` for several files at once, each with its name as soon as it is there;
        an interrupt ends all of them. All are at most `together_bytes` long."""
        accept = _bounded(names, limit_bytes, together_bytes)

        def named(name: str) -> Tuple[str, bytes]:
            return name, self._metadata(name, accept)

        return work_through(names, named, _METADATA_THREADS, self._halt)

    def _metadata(self, name: str, accept: Callable[[str, int], None]) -> bytes:
        """The file `name`; `accept` is told how much of it came, and raises for too much."""
        directives = "no_cache" if self._proxy else ""
        retry = self._retry()
        while True:
            body = bytearray()

            def consume(chunk: bytes, body: bytearray = body) -> None:
                body.extend(chunk)
                accept(name, len(body))

            try:
                self._get(quote(name), directives, Receiver([], check_answer, consume, _ignore))
                return bytes(body)
            except Again as again:
                retry.after(again, len(body))

    def blobs(
        self,
        blobs: Many[Blob],
        directory: Path,
        arrived: Arrived,
        attend: Callable[[], None] = nothing_else,
    ) -> Generator[Blob, None, None]:
        """Fetches `blobs` into `directory`, named by hex digest, and yields each verified one.

        What an earlier call left there unfinished is gone on with, or removed if it is of none
        of them. `arrived(n)` tells of n bytes from the wire, from any thread. The first failure
        stops all downloads and is raised; closing the iterator stops them, too, and so does
        what `attend` raises, which is called every second at least. Raises Unreachable,
        AccessDenied, ImageDamaged, NoSpace, SlotUnusable.
        """
        staging = Staging(directory, blobs)

        def fetch(blob: Blob) -> Blob:
            self._fetch(blob, staging, arrived)
            return blob

        def look_after() -> None:
            staging.look()
            attend()

        with closing(work_through(blobs, fetch, self._threads(), self._halt, look_after)) as done:
            for blob in done:
                staging.finished(blob)
                yield blob

    def _threads(self) -> int:
        """Fewer when the rate is limited: a connection that waits too long is cut by servers."""
        most = self._settings.connections
        limit = self._settings.limit_rate
        return min(most, max(limit // _READ_BYTES, 1)) if limit else most

    def _fetch(self, blob: Blob, staging: Staging, arrived: Arrived) -> None:
        retry = self._retry()
        with closing(Share(self._memory, blob.size if blob.compressed else 0)) as share, closing(
            Download(staging, blob, share)
        ) as download:
            while True:
                try:
                    self._halt.check()
                    download.take_up(self._halt.check)
                    if not download.is_complete:
                        self._get_blob(blob, retry.wrong, download, arrived)
                    download.finish()
                    return
                except MoreMemory as more:
                    share.grow(more.window_bytes)
                    download.reopen()
                except Again as again:
                    reached = download.reached
                    if download.broke(again):
                        retry.after(again, reached)

    def _get_blob(self, blob: Blob, wrong: int, download: Download, arrived: Arrived) -> None:
        receiver = Receiver(download.headers(), download.accept, download.feed, arrived)
        self._get(blob.location, self._directives(blob, wrong), receiver)

    def _directives(self, blob: Blob, wrong: int) -> str:
        """What to tell a proxy: the digest, then also to fetch anew, then to stand aside."""
        if not self._proxy:
            return ""
        if wrong > 1:
            return "no_cache"
        words = [f"file_sha256={blob.digest.hex()}"]
        words += ["file_compression_alg=zst"] if blob.compressed else []
        words += ["retry_caching"] if wrong else []
        return ",".join(words)

    def _retry(self) -> Retry:
        return Retry(self._liveness, self._settings.first_backoff_s, self._halt.event)

    def _get(self, location: str, directives: str, receiver: Receiver) -> None:
        """One try of one file. Raises Again for what may pass, an OtaError for what will not."""
        url = self.base + location
        target = self._base._replace(path=self._base.path + location)
        headers = [*self._headers, *receiver.headers]
        if directives:
            headers.append((b"Ota-File-Cache-Control", directives.encode()))
        for _ in range(MAX_REDIRECTS + 1):
            following = self._request(target, url, headers, receiver)
            if following is None:
                return
            url, target = redirected(url, target, following)
        raise too_many_redirects(self.base + location)

    def _request(
        self, target: Target, url: str, headers: Headers, receiver: Receiver
    ) -> Optional[str]:
        """Asks once; returns where a redirect leads, None when the body was consumed."""
        try:
            with self._link.get(target, headers) as got:
                self._liveness.saw_answer()
                following = location_of(got)
                if following is None:
                    receiver.accept(got, url)
                    self._consume(got, receiver)
                return following
        except TRANSPORT_ERRORS as error:
            raise transport_failure(self._peer, error) from error

    def _consume(self, response: httpcore.Response, receiver: Receiver) -> None:
        for chunk in response.iter_stream():
            receiver.arrived(len(chunk))
            receiver.consume(chunk)
            self._throttle.received(len(chunk))
            self._liveness.saw_bytes(len(chunk))
            self._halt.check()


def _slowest_rate(settings: NetSettings) -> float:
    """Who limits the rate does not call it too slow."""
    return min(SLOWEST_RATE, settings.limit_rate / 2) if settings.limit_rate else SLOWEST_RATE


def _bounded(
    names: Sequence[str], limit_bytes: int, together_bytes: Optional[int] = None
) -> Callable[[str, int], None]:
    """Raises ImageDamaged when so many bytes of one of `names` are more than it, or all, may have;
    called from many threads."""
    come = dict.fromkeys(names, 0)

    def accept(name: str, count: int) -> None:
        come[name] = count
        if count > limit_bytes:
            raise ImageDamaged(
                f"{printable(name)} is larger than the limit of {limit_bytes} bytes",
                slug="too-large",
            )
        if together_bytes is not None and sum(come.values()) > together_bytes:
            raise ImageDamaged(
                f"{printable(name)} and what came with it is larger than {size(together_bytes)}, "
                "and there is no memory for more",
                slug="too-large",
            )

    return accept


def _ignore(_: object) -> None:
    return None


def _target(url: str) -> Target:
    """Raises UsageProblem for a URL that can not be asked for."""
    target = target_of(url) if len(url) <= MAX_URL else None
    if target is None:
        raise UsageProblem(f"{printable(url[:200])} is not a usable URL")
    return target


def proxy_url(text: str) -> str:
    """`text` as the URL of a proxy. Raises ConfigError for what is none."""
    parts = split_url(text)
    if parts is None or parts.scheme != "http" or parts.path not in ("", "/"):
        raise ConfigError(
            f"{without_secrets(text)} is not a usable proxy", hint="give http://HOST:PORT"
        )
    return f"http://{parts.netloc}"


__all__ = [
    "Blob", "Fetcher", "NetSettings", "base_url", "compressed_location", "plain_location",
]  # fmt: skip
