"""URLs of an image's files (FORMATS section 1). Pure."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from ..errors import UsageProblem
from ..model import Digest
from .text import printable


def base_url(text: str) -> str:
    """`text` as a base URL: with a trailing slash, without query and fragment.

    Raises UsageProblem for anything but http and https URLs without credentials.
    """
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or not text.isprintable() or " " in text:
        raise UsageProblem(
            f"{printable(text)} is not a usable URL", hint="give https://HOST[:PORT]/PATH/"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/"


def plain_location(rootfs_directory: str, path: str) -> str:
    """Where the plain content of `path` is, relative to the base URL."""
    return quote(f"{rootfs_directory.strip('/')}/{path.lstrip('/')}", safe="/")


def compressed_location(directory: str, digest: Digest) -> str:
    """Where the compressed content of `digest` is, relative to the base URL."""
    return quote(f"{directory.strip('/')}/{digest.hex()}.zst", safe="/")
