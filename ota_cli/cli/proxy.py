"""`ota proxy`: other ECUs download through this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Iterable, Optional, Tuple

import click

from ..core.text import size
from ..core.urls import base_url, without_secrets
from ..errors import ConfigError, UsageProblem
from ..host.interrupts import end_with_stdin
from ..model import Settings
from ..probe import probe
from .options import Call, Result, command
from .request import Source, device_net, source_options

if TYPE_CHECKING:
    from ..host.net import NetSettings

_CACHE = "var/cache/ota"


@command("proxy")
@click.option(
    "--upstream", metavar="URL", multiple=True,
    help="A server whose files may be asked for; default: `server` of ota.yml.",
)  # fmt: skip
@click.option("--address", metavar="ADDRESS", help="Address to listen on; default: as configured.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="PORT", help="Port; default: as configured."
)
@click.option("--until-eof", is_flag=True, help="End when standard input does, too.")
@source_options
def proxy(
    call: Call, upstream: Tuple[str, ...], address: Optional[str], port: Optional[int],
    until_eof: bool, source: Source,
) -> Result:  # fmt: skip
    """Let the ECUs of ecu_info.yml download through this one, until Ctrl-C."""
    from ..proxy.address import own_address
    from ..proxy.serve import ProxySettings, addresses_of, serve

    if until_eof:
        end_with_stdin()
    device = probe(call.root)
    listen = address or device.proxy.local_ota_proxy_listen_addr or own_address(device.ecu)
    net = device_net(source, device)
    hosts = [each.ip_addr for each in device.ecu.secondaries]
    counts = serve(
        ProxySettings(
            listen, device.proxy.local_ota_proxy_listen_port if port is None else port,
            addresses_of(["localhost", device.ecu.ip_addr, *hosts]),
            _servers(upstream or _configured(device.settings), net, device.proxy.gateway),
            call.root / _CACHE if device.proxy.enable_local_ota_proxy_cache else None,
            net,
        ),
        call.emit,
    )  # fmt: skip
    return Result(
        document=counts.document(),
        lines=(
            f"{counts.requests} requests, {counts.hits} of them from the cache: "
            f"{size(counts.sent_bytes)} sent, {size(counts.fetched_bytes)} fetched, "
            f"{size(counts.saved_bytes)} saved.",
        ),
    )


def _configured(settings: Settings) -> Tuple[str, ...]:
    if settings.server is None:
        raise UsageProblem(
            "no server is known whose files may be asked for",
            hint="name one with --upstream, or as `server` in /etc/ota/ota.yml",
        )
    return (settings.server,)


def _servers(urls: Iterable[str], net: NetSettings, is_gateway: bool) -> Dict[str, str]:
    """HOST or HOST:PORT of each server, and the scheme to ask it with.

    One that is no gateway asks in plain http, whatever the URL, as the next proxy expects it.
    Raises ConfigError where there is no next proxy: cookies would go to the server in clear.
    """
    from ..host.net_link import target_of

    found = {}
    for url in urls:
        target = target_of(base_url(url))
        if target is None:
            raise UsageProblem(f"{without_secrets(url)} is not a usable URL")
        if target.scheme == "http" and not net.insecure_http:
            raise UsageProblem(
                f"{without_secrets(url)} is plain http",
                hint="use https, or allow it with --insecure-http",
            )
        if not (is_gateway or net.proxy or net.insecure_http):
            raise ConfigError(
                f"this proxy is no gateway, and would ask {target.authority} in plain http",
                hint="say `gateway: true` in proxy_info.yml, or name the next proxy there as "
                "`upper_ota_proxy`; --insecure-http allows plain http",
                slug="no-gateway",
            )
        found[target.authority] = target.scheme if is_gateway else "http"
    return found
