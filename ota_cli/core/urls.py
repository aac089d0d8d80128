"""URLs of an image's files (FORMATS section 1). Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Optional
from urllib.parse import SplitResult, quote, urlsplit

from ..entries import Digest
from ..errors import UsageProblem
from .text import printable

#: As DNS has it; other alphabets in their `xn--` form (RFC 5890): which one depends on the reader.
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?")
_MAX_HOST = 254
#: A URL among words: what ends a sentence or a quotation does not belong to it.
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"<>`]*[^\s\"'<>`,;:.)]")


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


def redacted(text: str) -> str:
    """`text` in which all that looks like a URL is without what may be a secret."""
    return _IN_TEXT.sub(lambda found: without_secrets(found.group()), text)


def without_secrets(text: str) -> str:
    """`text`, meant as a URL, without what may be a password or a token, safe to print."""
    scheme, mark, rest = text.partition("://") if "://" in text else ("", "", text)
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    _, at, after = rest.rpartition("@")
    return printable(f"{scheme}{mark}{'...@' if at else ''}{after}")
