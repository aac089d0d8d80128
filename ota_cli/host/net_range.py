"""Asking for the rest of a body (RFC 9110, section 14), and whether an answer is that rest."""

from __future__ import annotations

import re
from typing import Optional

import httpcore

from .net_link import Headers, header

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_STRONG_ETAG = re.compile(r'"[!#-~]*"')
_LENGTH = re.compile(r"\d{1,18}")


def asking_from(offset: int, etag: Optional[str]) -> Headers:
    """What asks for all from byte `offset` on; with an ETag, only of that very version."""
    headers = [(b"Range", b"bytes=%d-" % offset)]
    return [*headers, (b"If-Range", etag.encode("ascii"))] if etag else headers


def strong_etag(response: httpcore.Response) -> Optional[str]:
    """The ETag of an answer, if it promises the same bytes; a weak one (`W/`) does not."""
    etag = header(response, b"etag") or ""
    return etag if is_strong(etag) else None


def is_strong(etag: str) -> bool:
    """Whether an ETag may stand in `If-Range`."""
    return _STRONG_ETAG.fullmatch(etag) is not None


def length_of(response: httpcore.Response) -> Optional[int]:
    """How long the whole body of an answer is, if it says so."""
    text = header(response, b"content-length") or ""
    return int(text) if _LENGTH.fullmatch(text) else None


def is_rest(response: httpcore.Response, offset: int, total: Optional[int]) -> bool:
    """Whether a 206 holds all from `offset` to the end of a body of `total` bytes, if known."""
    found = _CONTENT_RANGE.fullmatch((header(response, b"content-range") or "").strip())
    if found is None:
        return False
    start, end = int(found[1]), int(found[2]) + 1
    whole = end if found[3] == "*" else int(found[3])
    return start == offset < end == whole and total in (None, whole)
