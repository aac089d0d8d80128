"""One file on its way: what came stays over all tries, as far as it can be right.

A try goes on where the one before, or a killed run, was broken off. Content from more than one
answer that is wrong says nothing about the server: the file may have changed between them. It is
then fetched whole before anybody is told that it is wrong.
"""

from __future__ import annotations

from typing import Callable, Optional

import httpcore

from ..errors import ImageDamaged
from .net_answer import check_answer, check_encoding, shown
from .net_body import BlobFile
from .net_link import Headers
from .net_range import asking_from, is_rest, length_of, strong_etag
from .net_retry import Again
from .net_staging import WORTH_KEEPING_BYTES, Blob, Staging
from .net_unpack import Share


class Download:
    """The tries of one blob, in memory of `share`; to be closed."""

    def __init__(self, staging: Staging, blob: Blob, share: Share) -> None:
        self._staging = staging
        self._blob = blob
        self._share = share
        self._file = self._new_file()
        self._etag: Optional[str] = None
        self._length: Optional[int] = None
        self._is_answered = False
        self._is_mixed = False
        self._is_forgiven = False
        self._may_ask_for_rest = True

    def _new_file(self) -> BlobFile:
        return BlobFile(self._staging, self._blob, self._share.window_bytes)

    @property
    def reached(self) -> int:
        """Bytes of the body so far; 0 when the last try brought none because nobody answered."""
        return self._file.received if self._is_answered else 0

    def take_up(self, check: Callable[[], None]) -> None:
        """Begins with what an earlier run left; `check` may end that by raising.

        Raises like `feed`.
        """
        if not self._file.received:
            self._is_mixed = True
            self._file.take_up(check)
            self._is_mixed = self._file.received > 0

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing to ask for."""
        return self._file.is_complete

    def headers(self) -> Headers:
        """What the next request has besides the usual."""
        self._is_answered = False
        if not self._file.received:
            return []
        self._is_mixed = True
        return asking_from(self._file.received, self._etag)

    def accept(self, response: httpcore.Response, url: str) -> None:
        """Returns when the body is what comes next. Raises Again or the final error."""
        offset = self._file.received
        if offset and response.status in (206, 416):
            if response.status == 416 or not is_rest(response, offset, self._length):
                self._may_ask_for_rest = False
                raise _no_rest(url, offset)
            check_encoding(response, url)
        else:
            check_answer(response, url)
            if offset:
                self._start_over()
            self._etag, self._length = strong_etag(response), length_of(response)
        self._is_answered = True

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the body.

        Raises Again (wrong), MoreMemory (see `reopen`), NoSpace, SlotUnusable.
        """
        self._file.feed(chunk)

    def finish(self) -> None:
        """Gives the file its name. Raises Again (wrong), NoSpace, SlotUnusable."""
        self._file.finish()

    def reopen(self) -> None:
        """Begins once more, in the memory that `share` has now."""
        self._file.close()
        self._file = self._new_file()

    def broke(self, again: Again) -> bool:
        """Makes ready for another try; False when the one that failed must not count."""
        is_innocent = again.wrong and self._is_mixed and not self._is_forgiven
        self._is_forgiven |= is_innocent
        is_little = self._file.received < WORTH_KEEPING_BYTES
        if again.wrong or is_little or not self._may_ask_for_rest:
            self._start_over()
        return not is_innocent

    def close(self) -> None:
        """Leaves nothing but what the next run can go on from."""
        self._file.close()

    def _start_over(self) -> None:
        self._file.discard()
        self._file = self._new_file()
        self._etag = self._length = None
        self._is_mixed = False


def _no_rest(url: str, offset: int) -> Again:
    failure = ImageDamaged(
        f"{shown(url)}: the server does not send the rest from byte {offset} on",
        hint="its answers to range requests are wrong; ask whoever runs it",
        slug="no-rest",
    )
    return Again(failure, wrong=True)
