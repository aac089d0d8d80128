"""What every request to a server of images has in its head."""

from __future__ import annotations

import re
from typing import Mapping

from ..core.text import printable, size
from ..errors import ConfigError
from .net_link import Headers

#: Servers take 8 to 20 KiB.
MAX_COOKIES_BYTES = 32 * 1024
_COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_COOKIE_VALUE = re.compile(r"[!-:<-~]([ -:<-~]*[!-:<-~])?|")


def usual_headers(cookies: Mapping[str, str]) -> Headers:
    """Who asks, for files as they are, with `cookies`.

    Raises ConfigError, without showing a value, for cookies that can not be sent.
    """
    headers = [(b"Accept", b"*/*"), (b"Accept-Encoding", b"identity"), (b"User-Agent", b"ota")]
    for name, value in cookies.items():
        if not _COOKIE_NAME.fullmatch(name) or not _COOKIE_VALUE.fullmatch(value):
            raise ConfigError(
                f"the cookie {printable(name)} has characters that can not be sent",
                hint="names and values are printable ASCII without `;`",
            )
    if cookies:
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        if len(cookie) > MAX_COOKIES_BYTES:
            raise ConfigError(
                f"the cookies are {size(len(cookie))} together, more than any server takes",
                hint="send only those that the server of the images asks for",
            )
        headers.append((b"Cookie", cookie.encode("ascii")))
    return headers
