"""What a client asks of the proxy (FORMATS section 2), and whether it may. Pure.

Clients are not trusted with anything but the choice of a path on the update's own servers.
"""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus
from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from ..host.net_link import Target, target_of
from ..host.net_range import is_strong

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes=(\d{1,18})-")
_COMPRESSIONS = ("", "zst")


class Refused(Exception):
    """What a client gets instead of an object: `status`, and why in a line for people."""

    def __init__(self, status: int, why: str, retry_after: str = "") -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.retry_after = retry_after


class Wanted(NamedTuple):
    """One object. `key`: its name in the cache; None: it must come from the server itself.

    `renew`: what is in the cache under that name is wrong. `offset`: the first byte that is
    wanted, if the object is still the one that `if_range`, an ETag, names. `directives`: what
    was said to proxies, for the next one.
    """

    target: Target
    key: Optional[str]
    renew: bool = False
    offset: int = 0
    if_range: str = ""
    directives: str = ""


def understand(
    method: str, uri: str, headers: Mapping[str, str], servers: Mapping[str, str]
) -> Wanted:
    """What a request wants. `uri`: in absolute form; `headers`: by names in lower case.

    `servers`: HOST or HOST:PORT of those that may be asked, and the scheme to do it with, which
    is not the one that clients use. Raises Refused, also for all other servers.
    """
    if method != "GET":
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "this proxy only knows GET")
    target = _target(uri, servers)
    said = headers.get("ota-file-cache-control", "")
    directives = _directives(said)
    offset, etag = _rest(headers)
    renew = "retry_caching" in directives
    return Wanted(target, _key(target, directives), renew, offset, etag, said)


def _target(uri: str, servers: Mapping[str, str]) -> Target:
    asked = target_of(uri) if uri.startswith("http://") else None
    if asked is None:
        raise Refused(HTTPStatus.BAD_REQUEST, "ask this proxy with http://HOST/PATH")
    scheme = servers.get(asked.authority)
    found = target_of(f"{scheme}{uri[len('http') :]}") if scheme else None
    if found is None:
        raise Refused(HTTPStatus.FORBIDDEN, f"{asked.authority} is no server of this update")
    return found


def _rest(headers: Mapping[str, str]) -> Tuple[int, str]:
    """From where on, and of which version; from the start where that can not be told."""
    start = _RANGE.fullmatch(headers.get("range", "").strip())
    etag = headers.get("if-range", "").strip()
    if start is None or (etag and not is_strong(etag)):
        return 0, ""
    return int(start[1]), etag


def _directives(text: str) -> Dict[str, str]:
    """Comma-separated, with spaces around; those without a value have an empty one."""
    pairs = (word.partition("=") for word in text.split(","))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _key(target: Target, directives: Mapping[str, str]) -> Optional[str]:
    digest = directives.get("file_sha256", "").lower()
    compression = directives.get("file_compression_alg", "")
    if "no_cache" in directives:
        return None
    if not digest:
        where = f"{target.authority}{target.path}"
        return f"url-{hashlib.sha256(where.encode()).hexdigest()}"
    if not _DIGEST.fullmatch(digest) or compression not in _COMPRESSIONS:
        return None
    return f"{digest}.{compression}" if compression else digest
