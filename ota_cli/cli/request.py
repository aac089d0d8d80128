"""The options `check` and `update` share, made into a request. Flags win over `ota.yml`."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Mapping, Optional, TypeVar

import click

from ..core.config import parse_rate
from ..errors import ConfigError, UsageProblem
from ..host.memory import keep_heap_small
from ..model import Device, ProxyInfo, Settings

if TYPE_CHECKING:
    from ..host.net import NetSettings

#: Of a file; JSON needs up to three times what is sent, see `net_headers`.
_MAX_COOKIE_BYTES = 96 * 1024

Body = TypeVar("Body", bound=Callable[..., object])


@dataclass(frozen=True)
class Source:
    """Where an image comes from and how it is fetched, as given on the command line.

    `version` and `name` are None for verbs that take a place instead.
    """

    version: Optional[str] = None
    name: Optional[str] = None
    cacert: Optional[str] = None
    cert: Optional[str] = None
    key: Optional[str] = None
    cookie_file: Optional[str] = None
    cookies: Mapping[str, str] = field(default_factory=dict)
    insecure_http: bool = False
    limit_rate: Optional[int] = None
    proxy: Optional[str] = None


def version_options(body: Body) -> Body:
    """`--version` and `--as`, for a device that is to get an image; also `source_options`."""
    wrapped = source_options(body)
    for option in reversed(_VERSION_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def source_options(body: Body) -> Body:
    """Adds the options of fetching; the body gets them as one `source` argument."""

    @functools.wraps(body)
    def wrapped(*args: object, **values: object) -> object:
        given = {name: values.pop(name, None) for name in _NAMES}
        keep_heap_small()
        return body(*args, source=_source(given), **values)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


_NAMES = (
    "version", "name", "cacert", "cert", "key", "cookie_file", "cookie", "insecure_http",
    "limit_rate", "proxy",
)  # fmt: skip
_VERSION_OPTIONS = (
    click.option(
        "--version", required=True, metavar="URL", help="Image URL, or a name on `server`."
    ),
    click.option(
        "--as", "name", metavar="NAME", default="", help="Name an image without a version."
    ),
)
_OPTIONS = (
    click.option("--cacert", metavar="FILE", help="Trust the server by these certificates only."),
    click.option("--cert", metavar="FILE", help="Client certificate (mutual TLS)."),
    click.option("--key", metavar="FILE", help="Key of the client certificate."),
    click.option("--cookie-file", metavar="FILE", help="JSON object of cookies; `-` is stdin."),
    click.option(
        "--cookie", metavar="NAME=VALUE", multiple=True,
        help="A cookie; visible in process lists, better use --cookie-file.",
    ),
    click.option("--insecure-http", is_flag=True, help="Allow plain http: contents stay verified."),
    click.option("--limit-rate", metavar="RATE", help="Bytes per second, like 500K or 2M."),
    click.option("--proxy", metavar="URL", help="Fetch through this OTA proxy (http://HOST:PORT)."),
)  # fmt: skip


def _source(given: Dict[str, object]) -> Source:
    cookies = _cookies(given.pop("cookie") or ())
    rate = _rate(given.pop("limit_rate"))
    if bool(given["cert"]) != bool(given["key"]):
        raise UsageProblem("--cert and --key go together")
    return Source(cookies=cookies, limit_rate=rate, **given)  # type: ignore[arg-type]


def _rate(text: object) -> Optional[int]:
    if text is None:
        return None
    rate = parse_rate(str(text))
    if rate is None:
        raise UsageProblem(f"--limit-rate {text}: expected bytes per second like 500K or 2M")
    return rate


def _cookies(pairs: object) -> Dict[str, str]:
    cookies: Dict[str, str] = {}
    assert isinstance(pairs, tuple)
    for pair in pairs:
        name, equals, value = str(pair).partition("=")
        if not equals or not name:
            raise UsageProblem("--cookie takes NAME=VALUE")
        cookies[name] = value
    return cookies


def device_net(source: Source, device: Device) -> NetSettings:
    """How a device fetches: also through the proxy of its `proxy_info.yml`."""
    return net_settings(source, device.settings, device.proxy)


def net_settings(source: Source, settings: Settings, proxy: Optional[ProxyInfo]) -> NetSettings:
    """How to fetch: flags over settings over the proxy an ECU is told to use."""
    from ..host.net import NetSettings

    upper = proxy.upper_ota_proxy if proxy else None
    return NetSettings(
        cacert=_path(source.cacert) or settings.cacert,
        cert=_path(source.cert) or settings.cert,
        key=_path(source.key) or settings.key,
        cookies={**_cookie_file(source.cookie_file), **source.cookies},
        insecure_http=source.insecure_http,
        proxy=source.proxy or upper,
        limit_rate=source.limit_rate or settings.limit_rate,
        connections=settings.connections,
        no_progress_timeout_s=settings.no_progress_timeout_s,
    )


def _path(text: Optional[str]) -> Optional[Path]:
    return Path(text) if text else None


def _cookie_file(name: Optional[str]) -> Dict[str, str]:
    """The cookies in a file; what is in it never shows in a message."""
    if name is None:
        return {}
    try:
        if name == "-" and sys.stdin is None:
            raise ConfigError("the cookies can not be read: stdin is closed")
        if name == "-":
            data = sys.stdin.buffer.read(_MAX_COOKIE_BYTES + 1)
        else:
            with open(name, "rb") as stream:
                data = stream.read(_MAX_COOKIE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cookie file {name} can not be read: {error.strerror}") from None
    if len(data) > _MAX_COOKIE_BYTES:
        raise ConfigError(f"cookie file {name} is larger than {_MAX_COOKIE_BYTES // 1024} KiB")
    try:
        cookies = json.loads(data)
    except (ValueError, RecursionError):
        cookies = None
    if not isinstance(cookies, dict) or not all(isinstance(v, str) for v in cookies.values()):
        raise ConfigError(f"cookie file {name} is not a JSON object of names and values")
    return cookies
