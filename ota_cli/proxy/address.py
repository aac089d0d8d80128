"""Where the ECUs below reach the proxy of this one. Pure."""

from __future__ import annotations

from ..errors import ConfigError
from ..model import EcuInfo

#: How a proxy says where it listens; the rest of the line is HOST:PORT.
LISTENS = "proxy listens on "
#: A proxy that listens there is reached at any address of its ECU (RFC 1122, RFC 4291).
_ANY = ("0.0.0.0", "::")  # noqa: S104 (compared with, not listened on)


def own_address(ecu: EcuInfo) -> str:
    """The address of this ECU. Raises ConfigError where those below could not reach it."""
    if ecu.ip_addr == "localhost" and ecu.secondaries:
        raise ConfigError(
            "the secondaries can not reach a proxy on localhost",
            hint="give this ECU's ip_addr in ecu_info.yml",
            slug="proxy-on-localhost",
        )
    return ecu.ip_addr


def proxy_url(ecu: EcuInfo, listens: str) -> str:
    """How clients name a proxy that listens on HOST:PORT. Raises ConfigError."""
    host, _, port = listens.rpartition(":")
    host = own_address(ecu) if host in _ANY else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
