"""Running the proxy in this process, until it is told to end."""

from __future__ import annotations

import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import FrozenSet, Iterable, Mapping, NamedTuple, Optional, Set

from ..core.text import printable
from ..errors import ConfigError
from ..events import Emit, Note, Warned
from ..host.net import NetSettings
from .address import LISTENS
from .app import Allowed, Proxy
from .cache import Cache, open_cache
from .counts import Counts
from .upstream import Upstream

#: As many clients of 32 connections each as a vehicle may have; a thread serves one at a time.
_CONNECTIONS = 1024
_THREADS = 64
#: So much of an answer may wait for a slow client before its thread does, too.
_UNSENT_BYTES = 256 * 1024
_MAX_HEAD_BYTES = 64 * 1024
_IDLE_S = 120


class ProxySettings(NamedTuple):
    """Where to listen, whom to serve, with what. `cache`: where to keep objects, None: nowhere.

    `servers`: whose files may be asked for, as HOST or HOST:PORT, and how each is: https or http.
    """

    address: str
    port: int
    clients: FrozenSet[str]
    servers: Mapping[str, str]
    cache: Optional[Path]
    net: NetSettings


def addresses_of(hosts: Iterable[str]) -> FrozenSet[str]:
    """The addresses of `hosts`. Raises ConfigError for one that has none."""
    found: Set[str] = set()
    for host in hosts:
        try:
            found.update(str(entry[4][0]) for entry in socket.getaddrinfo(host, None))
        except OSError as error:
            raise ConfigError(
                f"{printable(host)} has no address: {error.strerror}",
                hint="check ip_addr in ecu_info.yml",
            ) from None
    return frozenset(found)


def serve(settings: ProxySettings, emit: Emit) -> Counts:
    """Serves until SIGINT, SIGTERM or SIGHUP; what was done by then.

    Transfers that are under way then are cut off, which clients notice. Raises ConfigError
    where it can not listen.
    """
    from waitress.server import create_server

    _quiet_library()
    counts = Counts()
    with ExitStack() as stack:
        listening = stack.enter_context(_listen(settings.address, settings.port))
        pool = stack.enter_context(ThreadPoolExecutor(settings.net.connections))
        upstream = stack.enter_context(Upstream(settings.net))
        cache = _cache(settings.cache, stack, emit) if settings.cache else None
        allowed = Allowed(settings.clients, settings.servers)
        server = create_server(
            Proxy(allowed, upstream, cache, counts, pool.submit),
            sockets=[listening], threads=_THREADS, connection_limit=_CONNECTIONS,
            channel_timeout=_IDLE_S, outbuf_high_watermark=_UNSENT_BYTES, ident="ota",
            max_request_header_size=_MAX_HEAD_BYTES, max_request_body_size=1,
            asyncore_use_poll=True, clear_untrusted_proxy_headers=True,
        )  # fmt: skip
        host, port = listening.getsockname()[:2]
        emit(Note(f"{LISTENS}{host}:{port}"))
        server.run()
    return counts


def _listen(address: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        )
    except OSError as error:
        raise ConfigError(
            f"the proxy can not listen on {printable(address)}:{port}: {error.strerror}",
            hint="check ip_addr in ecu_info.yml and local_ota_proxy_listen_port in proxy_info.yml; "
            "another proxy may run already",
        ) from None


def _cache(directory: Path, stack: ExitStack, emit: Emit) -> Optional[Cache]:
    try:
        return stack.enter_context(open_cache(directory))
    except BlockingIOError:
        emit(Warned(f"another proxy uses {directory}; nothing is cached"))
    except OSError as error:
        emit(Warned(f"{directory} can not be used ({error.strerror}); nothing is cached"))
    return None


def _quiet_library() -> None:
    """Clients that go away and transfers that are cut off are no events of ours."""
    log = logging.getLogger("waitress")
    log.addHandler(logging.NullHandler())
    log.propagate = False
