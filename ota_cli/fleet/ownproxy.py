"""This ECU's proxy, for as long as an update runs: a program of its own (DESIGN section 9).

What its clients do to it does not harm the update. When it dies it is started again: its cache is
valid, and the downloads that it cut off are tried again.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import replace
from types import TracebackType
from typing import Callable, List, Optional, Sequence, Type, TypeVar

from ..core.protocol import Answer, BadLine, Object, parse_line
from ..core.requests import AskCheck, AskUpdate
from ..errors import OtaError
from ..events import Emit, Note, Warned
from ..host.net import NetSettings
from ..host.talk import Conversation, Overlong, Silent
from ..model import Device
from ..proxy.address import LISTENS, proxy_url
from ..source import urls_for
from ..update import Updated
from .check import FleetChecked
from .together import FleetSwitched

_START_S = 30.0
#: Longer than any update; poll(2) takes no more than 24 days.
_UPDATE_S = 7 * 24 * 3600.0
_RESTARTS = 5


Asked = TypeVar("Asked", AskUpdate, AskCheck)
Done = TypeVar("Done", FleetSwitched[Updated], FleetChecked)


def through_own_proxy(
    device: Device,
    order: Asked,
    net: NetSettings,
    emit: Emit,
    work: Callable[[Asked, NetSettings], Done],
) -> Done:
    """What `work` makes of `order` and `net` while this ECU is the proxy of those below it.

    Both then name it; where there is to be none, `order` names none. Raises what `work` and
    `OwnProxy` raise.
    """
    if not (device.proxy.enable_local_ota_proxy and device.ecu.secondaries):
        return work(replace(order, proxy=None), net)
    with OwnProxy(device, urls_for(order.url, device.ecu), net, emit) as proxy:
        done = work(replace(order, proxy=proxy.url), replace(net, proxy=proxy.url))
    return replace(done, proxy=proxy.report)


class OwnProxy:
    """Keeps `ota proxy` running while its `with` block does; `report` is there afterwards.

    `urls`: of the servers whose files may be asked for. `url`: how clients name it. Raises the
    OtaError with which it did not start.
    """

    def __init__(self, device: Device, urls: Sequence[str], net: NetSettings, emit: Emit) -> None:
        self._device = device
        self._urls = urls
        self._net = net
        self._emit = emit
        self._is_over = threading.Event()
        self.url = ""
        self.report: Object = {}

    def __enter__(self) -> OwnProxy:
        self._talk = self._start()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._is_over.set()
        self._talk.hang_up()
        self._watcher.join()

    def _start(self) -> Conversation:
        # not a word of the command line, which everybody can read; and a pipe could be full
        with open(os.memfd_create("cookies"), "wb") as cookies:
            cookies.write(json.dumps(dict(self._net.cookies)).encode())
            cookies.flush()
            talk = Conversation(self._argv(cookies.fileno()), (cookies.fileno(),)).__enter__()
        try:
            self.url = proxy_url(self._device.ecu, _place(talk))
        except OtaError:
            talk.__exit__(*sys.exc_info())
            raise
        return talk

    def _argv(self, cookies: int) -> List[str]:
        net, words = self._net, []
        for option, value in (
            ("--cacert", net.cacert), ("--cert", net.cert), ("--key", net.key),
        ):  # fmt: skip
            words += [option, os.path.abspath(value)] if value else []
        words += ["--proxy", net.proxy] if net.proxy else []
        words += ["--limit-rate", str(net.limit_rate)] if net.limit_rate else []
        words += ["--insecure-http"] if net.insecure_http else []
        words += [word for url in self._urls for word in ("--upstream", url)]
        return [
            sys.executable, "-m", "ota_cli", "proxy", "--root", str(self._device.root),
            "--output", "jsonl", "--until-eof", "--cookie-file", f"/dev/fd/{cookies}", *words,
        ]  # fmt: skip

    def _watch(self) -> None:
        for _ in range(_RESTARTS + 1):
            status = self._listen()
            if self._is_over.is_set():
                return
            how = f"signal {-status}" if status < 0 else f"status {status}"
            self._emit(Warned(f"the proxy for the ECUs below ended with {how}; it starts again"))
            try:
                self._talk = self._start()
            except OtaError as error:
                self._emit(Warned(f"the proxy does not start again: {error.message}"))
                return
            if self._is_over.is_set():
                self._talk.hang_up()
        self._emit(Warned("the proxy ended too often: the ECUs below can not download"))

    def _listen(self) -> int:
        """Hears the proxy out; how it ended."""
        try:
            until = time.monotonic() + _UPDATE_S
            while (said := _said(self._talk, until)) is not None:
                if isinstance(said, Answer):
                    self.report = said.result
                elif isinstance(said, Warned):
                    self._emit(said)
        except OtaError:
            self._talk.kill()  # it does not speak our language
        status = self._talk.ended()
        self._talk.__exit__(None, None, None)
        return status


def _place(talk: Conversation) -> str:
    """HOST:PORT, once the proxy listens. Raises the OtaError with which it ended before."""
    until = time.monotonic() + _START_S
    while (said := _said(talk, until)) is not None:
        if isinstance(said, Note) and said.text.startswith(LISTENS):
            return said.text[len(LISTENS) :]
        if isinstance(said, Answer) and said.error is not None:
            raise said.failure("")
    raise OtaError(f"the proxy ended: {talk.last_words()}", slug="proxy")


def _said(talk: Conversation, until: float) -> object:
    try:
        line = talk.line(until)
        return None if line is None else parse_line(line) or Note("")
    except (Silent, Overlong, BadLine) as error:
        raise OtaError(f"the proxy says nothing of use: {error}", slug="proxy") from None
