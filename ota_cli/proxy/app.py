"""The proxy as a WSGI application (PEP 3333): who asks for what, and where it comes from.

    hit     from the cache, or from a fetch that another client has begun
    miss    fetched for this client
    none    passed on as it is: metadata, or there is no room for it

The answer says which, in `X-Cache`.
"""

from __future__ import annotations

from contextlib import ExitStack
from http import HTTPStatus
from typing import (
    Callable,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    Union,
)

import httpcore

from ..host.net_link import header
from ..host.net_range import length_of, strong_etag
from .cache import Cache
from .counts import Counts
from .flight import Flight, Flights, Follower, Unstorable
from .stored import Head, Stored
from .upstream import Upstream
from .wanted import Refused, Wanted, understand

StartResponse = Callable[[str, List[Tuple[str, str]]], object]
#: Runs what it is given, in another thread.
Start = Callable[[Callable[[], None]], object]
_PASSED_ON = ("Content-Length", "Content-Range", "ETag")


class Allowed(NamedTuple):
    """Which addresses may ask, and for the files of which servers; see `understand`."""

    clients: FrozenSet[str]
    servers: Mapping[str, str]


class Body:
    """Pieces of a body, which are counted; `close` lets go of where they come from."""

    def __init__(self, pieces: Iterable[bytes], held: ExitStack, counts: Counts) -> None:
        self._pieces = pieces
        self._held = held
        self._counts = counts

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._counts.add(sent=len(piece))
            yield piece

    def close(self) -> None:
        """Called by the server, at the end or when the client is gone."""
        self._held.close()


class Answer(NamedTuple):
    """What a client is told."""

    status: int
    headers: List[Tuple[str, str]]
    body: Iterable[bytes]


class Proxy:
    """The application. `cache`: None where nothing is to be kept."""

    def __init__(
        self, allowed: Allowed, upstream: Upstream, cache: Optional[Cache], counts: Counts,
        start: Start,
    ) -> None:  # fmt: skip
        self._allowed = allowed
        self._upstream = upstream
        self._cache = cache
        self._flights = Flights(cache, start) if cache else None
        self._counts = counts

    def __call__(
        self, environ: Mapping[str, str], start_response: StartResponse
    ) -> Iterable[bytes]:
        self._counts.add(requests=1)
        try:
            answer = self._answer(environ)
        except Refused as refused:
            answer = _refusal(refused)
        start_response(f"{answer.status} {_phrase(answer.status)}", answer.headers)
        return answer.body

    def _answer(self, environ: Mapping[str, str]) -> Answer:
        if environ["REMOTE_ADDR"] not in self._allowed.clients:
            raise Refused(HTTPStatus.FORBIDDEN, "this proxy serves the ECUs it knows only")
        wanted = understand(
            environ["REQUEST_METHOD"], environ["REQUEST_URI"], _headers(environ),
            self._allowed.servers,
        )  # fmt: skip
        if wanted.key is None or self._cache is None or self._flights is None:
            return self._passed_on(wanted)
        if wanted.renew:
            self._cache.drop(wanted.key)
        stored = self._cache.find(wanted.key)
        if stored is not None:
            return self._given(wanted, stored, "hit")
        return self._followed(wanted, wanted.key, self._flights)

    def _followed(self, wanted: Wanted, key: str, flights: Flights) -> Answer:
        source, was_begun = flights.join(key, lambda flight: self._bring(wanted, flight))
        if source is None:
            return self._passed_on(wanted)
        try:
            return self._given(wanted, source, "hit" if was_begun else "miss")
        except Unstorable:
            return self._passed_on(wanted)

    def _given(self, wanted: Wanted, source: Union[Stored, Follower], outcome: str) -> Answer:
        with ExitStack() as stack:
            stack.callback(source.close)
            status, offset, headers = _head(wanted, source.head(), outcome)
            self._counts.add(hits=1 if outcome == "hit" else 0)
            pieces = source.pieces(offset)
            return Answer(status, headers, Body(pieces, stack.pop_all(), self._counts))

    def _bring(self, wanted: Wanted, flight: Flight) -> None:
        """Fetches a whole object for all who follow. Raises Refused and OSError."""
        with self._upstream.get(wanted) as response:
            etag = strong_etag(response) or ""
            flight.begin(Head(length_of(response), etag))
            for chunk in self._fetched(response):
                flight.add(chunk)
            flight.draft.finish(etag)

    def _passed_on(self, wanted: Wanted) -> Answer:
        with ExitStack() as stack:
            response = stack.enter_context(self._upstream.get(wanted, rest=wanted.offset > 0))
            found = ((name, header(response, name.lower().encode())) for name in _PASSED_ON)
            headers = [(name, value) for name, value in found if value and value.isascii()]
            pieces = self._fetched(response)
            return Answer(
                response.status, [*headers, ("X-Cache", "none")],
                Body(pieces, stack.pop_all(), self._counts),
            )  # fmt: skip

    def _fetched(self, response: httpcore.Response) -> Iterator[bytes]:
        for chunk in self._upstream.chunks(response):
            self._counts.add(fetched=len(chunk))
            yield chunk


def _head(wanted: Wanted, head: Head, outcome: str) -> Tuple[int, int, List[Tuple[str, str]]]:
    """Status, first byte and headers of an answer that begins where it is wanted, if possible."""
    headers = [("X-Cache", outcome), *([("ETag", head.etag)] if head.etag else [])]
    length, offset = head.length, wanted.offset
    if length is None:
        return 200, 0, headers
    if not offset or wanted.if_range not in ("", head.etag):
        return 200, 0, [*headers, ("Content-Length", str(length))]
    if offset >= length:
        raise Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"it ends at byte {length}")
    span = ("Content-Range", f"bytes {offset}-{length - 1}/{length}")
    return 206, offset, [*headers, span, ("Content-Length", str(length - offset))]


def _headers(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of a request, as CGI names them (RFC 3875), by names in lower case."""
    return {
        name[len("HTTP_") :].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }


def _refusal(refused: Refused) -> Answer:
    text = f"{refused.why}\n".encode("utf-8", "replace")
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    if refused.retry_after:
        headers.append(("Retry-After", refused.retry_after))
    return Answer(refused.status, headers, [text])


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
