"""URLs of an image's files (FORMATS section 1). Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Match, Optional
from urllib.parse import SplitResult, quote, urlsplit

from ..entries import Digest
from ..errors import UsageProblem
from .text import printable

#: As DNS has it; other alphabets in their `xn--` form (RFC 5890): which one depends on the reader.
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?")
_MAX_HOST = 254
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
#: What follows the scheme of a URL among words. A password may have any other character.
_AFTER_SCHEME = re.compile(r"(?<=://)[^ \t\r\n]+")
#: What ends a sentence or a quotation is no part of a query; more than that may be a secret.
_LAST_SIGNS = re.compile(r"[\"'<>`,;:.)]{0,2}\Z")


def base_url(text: str) -> str:
    """`text` as a base URL: with a trailing slash, without query and fragment.

    Raises UsageProblem for anything but http and https URLs without credentials.
    """
    parts = split_url(text)
    if parts is None:
        raise UsageProblem(
            f"{without_secrets(text)} is not a usable URL",
            hint="give https://HOST[:PORT]/PATH/, without a user name or password",
        )
    slash = "" if parts.path.endswith("/") else "/"
    return f"{parts.scheme}://{parts.netloc}{parts.path}{slash}"


def split_url(text: str) -> Optional[SplitResult]:
    """The parts of an http or https URL with a possible host and port; None for anything else."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.port != 0 and _is_host(parts.hostname)
    except ValueError:
        return None
    tidy = text.isprintable() and not any(sign in text for sign in ' "<>\\^`{|}')
    return parts if usable and tidy and "@" not in parts.netloc else None


def plain_location(rootfs_directory: str, path: str) -> str:
    """Where the plain content of `path` is, relative to the base URL."""
    return quote(f"{rootfs_directory.strip('/')}/{path.lstrip('/')}", safe="/")


def compressed_location(directory: str, digest: Digest) -> str:
    """Where the compressed content of `digest` is, relative to the base URL."""
    return quote(f"{directory.strip('/')}/{digest.hex()}.zst", safe="/")


def _is_host(host: Optional[str]) -> bool:
    """Raises ValueError for what looks like an IPv6 address but is none."""
    if not host:
        return False
    if ":" in host:
        return bool(ipaddress.IPv6Address(host))
    return is_host_name(host)


def is_host_name(text: str) -> bool:
    """Whether `text` has the form of a DNS name; IPv4 addresses have it, too."""
    return len(text) <= _MAX_HOST and _HOST.fullmatch(text) is not None


def redacted(text: str, at_most: Optional[int] = None) -> str:
    """`text` in which all that looks like a URL is without what may be a secret.

    Of a longer one only `at_most` characters are looked at.
    """
    kept = text if at_most is None or len(text) <= at_most else _cut(text[:at_most])
    return _AFTER_SCHEME.sub(_bare_in_text, kept)


def without_secrets(text: str) -> str:
    """`text`, meant as a URL, without what may be a password or a token, safe to print."""
    scheme, mark, rest = text.partition("://")
    if mark and _SCHEME.fullmatch(scheme):
        return printable(f"{scheme}{mark}{_bare(rest)}")
    return printable(_bare(text))


def _cut(text: str) -> str:
    """`text`, which was longer, without a URL at its end: that may lack the `@` which tells a
    password."""
    *_, word = re.split("[ \t\r\n]", text)
    _, mark, after = word.partition("://")
    return f"{text[: len(text) - len(after)] if mark else text}..."


def _bare_in_text(found: Match[str]) -> str:
    bare = _bare(found.group())
    is_cut = re.search("[?#]", found.group()) is not None
    last = _LAST_SIGNS.search(found.group()) if is_cut else None
    return bare + last.group() if last else bare


def _bare(rest: str) -> str:
    """What follows the scheme of a URL, without user, password, query and fragment."""
    place, *query = re.split("[?#]", rest, maxsplit=1)
    _, at, after = place.rpartition("@")
    may_be_password = not at and ":" in place.partition("/")[0]
    if query and "@" in query[0] and may_be_password:
        return "..."
    return f"{'...@' if at else ''}{after}"
