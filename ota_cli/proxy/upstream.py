"""Asking the update's own servers, or the next proxy, for what is not in the cache."""

from __future__ import annotations

from contextlib import contextmanager
from types import TracebackType
from typing import Iterator, Optional, Type

import httpcore

from ..errors import ImageDamaged, Unreachable
from ..host.net import NetSettings, proxy_url
from ..host.net_answer import (
    MAX_REDIRECTS,
    check_encoding,
    redirected,
    shown,
    too_many_redirects,
    transport_failure,
)
from ..host.net_crew import Halt
from ..host.net_headers import usual_headers
from ..host.net_link import (
    TRANSPORT_ERRORS,
    Headers,
    Link,
    counted_by,
    header,
    location_of,
    target_of,
)
from ..host.net_range import asking_from
from ..host.net_rate import Throttle
from ..host.net_retry import Again, Liveness
from ..host.net_tls import tls_context
from .wanted import Refused, Wanted

BAD_GATEWAY = 502
_REST, _NO_REST = 206, 416


class Upstream:
    """Where the proxy gets objects from; use it in a `with` block, from any thread.

    `settings.proxy`: all is asked of that proxy instead, in plain http. Raises ConfigError for
    settings that can not be used.
    """

    def __init__(self, settings: NetSettings) -> None:
        self._settings = settings
        self._proxy = target_of(proxy_url(settings.proxy)) if settings.proxy else None
        self._headers = usual_headers(settings.cookies)
        self._halt = Halt()
        self._throttle = Throttle(settings.limit_rate, self._halt.event)

    def __enter__(self) -> Upstream:
        settings = self._settings
        self._link = Link(
            tls_context(settings.cacert, settings.cert, settings.key), self._proxy,
            (settings.connect_timeout_s, settings.read_timeout_s), self._halt.watch,
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

    @contextmanager
    def get(self, wanted: Wanted, *, rest: bool = False) -> Iterator[httpcore.Response]:
        """The answer for `wanted`, whose body is to be read with `chunks` inside the block.

        `rest`: only from its offset on; the server may send all, that part, or say that there is
        none. Raises Refused for any other answer, also when the body breaks off, and where a server
        would get the cookies in plain http that is not allowed.
        """
        target = wanted.target
        if target.scheme == "http" and not (self._proxy or self._settings.insecure_http):
            raise Refused(BAD_GATEWAY, f"{target.authority} would be asked in plain http")
        url = f"{target.scheme}://{target.authority}{target.path}"
        headers = self._headers_for(wanted, rest)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                with self._link.get(target, headers) as response:
                    location = location_of(response)
                    if location is None:
                        _require_body(response, url, rest)
                        yield response
                        return
                url, target = redirected(url, target, location)
            raise too_many_redirects(url)
        except TRANSPORT_ERRORS as error:
            failure = transport_failure(target.authority, error)
            failure = failure.failure if isinstance(failure, Again) else failure
            raise Refused(BAD_GATEWAY, failure.message) from error
        except (ImageDamaged, Unreachable) as error:
            raise Refused(BAD_GATEWAY, error.message) from None

    def chunks(self, response: httpcore.Response) -> Iterator[bytes]:
        """The body of an answer, no faster than the limit allows.

        Raises Unreachable where so little of it comes that it would never be whole: a server could
        hold this proxy for ever.
        """
        liveness = Liveness(self._settings.no_progress_timeout_s)
        with counted_by(response, liveness):
            for chunk in response.iter_stream():
                liveness.saw_bytes(len(chunk))
                self._throttle.received(len(chunk))
                yield chunk

    def _headers_for(self, wanted: Wanted, rest: bool) -> Headers:
        headers = list(self._headers)
        if self._proxy and wanted.directives:
            headers.append((b"Ota-File-Cache-Control", wanted.directives.encode("latin-1")))
        return [*headers, *asking_from(wanted.offset, wanted.if_range)] if rest else headers


def _require_body(response: httpcore.Response, url: str, rest: bool) -> None:
    """Raises Refused for an answer without a body to pass on, and ImageDamaged for one in an
    encoding, of which clients would not be told.
    """
    status = response.status
    if rest and status == _NO_REST:
        return
    if status == 200 or (rest and status == _REST):
        check_encoding(response, url)
        return
    raise Refused(
        status if 400 <= status < 600 else BAD_GATEWAY,
        f"{shown(url)}: the server answers {status}",
        header(response, b"retry-after") or "",
    )
