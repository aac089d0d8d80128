"""An interrupt while a system is armed: all ECUs stay together, and what boots next is told."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List

import pytest

from ota_cli.core.requests import AskUpdate
from ota_cli.errors import Footprint, SignalReceived
from ota_cli.events import Changed, Event, silent
from ota_cli.fleet.link import Links
from ota_cli.fleet.together import Crew
from ota_cli.host.interrupts import catch_interrupts, deferred
from ota_cli.host.net import NetSettings
from ota_cli.probe import probe
from ota_cli.trial import activate
from ota_cli.update import Request, update
from tests.conftest import Server
from tests.support.bench import ota


@pytest.fixture(autouse=True)
def caught() -> Iterator[None]:
    """Interrupts are caught as in a run of `ota`."""
    before = [(each, signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM)]
    before.append((signal.SIGHUP, signal.getsignal(signal.SIGHUP)))
    catch_interrupts()
    yield
    for number, handler in before:
        signal.signal(number, handler)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def when_armed(event: Event) -> None:
    """A reader of events who presses Ctrl-C when it reads of that."""
    if isinstance(event, Changed) and event.state == "armed":
        interrupt()


class Agreed:
    """The agreement of others, and whether it ended well."""

    def __init__(self) -> None:
        self.ended_well = False

    @contextmanager
    def agreement(self, is_trial: bool) -> Iterator[None]:
        yield
        self.ended_well = True


def require_armed(device: Path, raised: SignalReceived, agreed: Agreed) -> None:
    assert raised.footprint is Footprint.BOOT
    assert agreed.ended_well, "the others would be taken back, and this one is armed"
    assert ota("status", "--root", device, "--json").result["verdict"]["code"] == "armed"


def settings(server: Server) -> NetSettings:
    return NetSettings(cacert=server.cacert)


def test_an_interrupt_waits_until_a_short_block_is_done() -> None:
    done: List[str] = []

    def block() -> None:
        with deferred():
            interrupt()
            interrupt()
            done.append("all of it")

    with pytest.raises(SignalReceived):
        block()
    assert done == ["all of it"]


def test_an_ignored_interrupt_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with deferred():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_an_update_that_is_interrupted_when_it_has_armed_says_so(
    grub_device: Path, server: Server
) -> None:
    agreed = Agreed()
    wanted = Request(f"{server.url}v2/", settings(server), self_confirm=False)
    with pytest.raises(SignalReceived) as raised:
        update(probe(grub_device), wanted, when_armed, agreed.agreement)
    require_armed(grub_device, raised.value, agreed)


def test_an_activation_that_is_interrupted_when_it_has_armed_says_so(
    grub_device: Path, server: Server
) -> None:
    staged = Request(f"{server.url}v2/", settings(server), stage_only=True, self_confirm=False)
    update(probe(grub_device), staged, silent)
    agreed = Agreed()
    with pytest.raises(SignalReceived) as raised:
        activate(probe(grub_device), when_armed, agreed.agreement)
    require_armed(grub_device, raised.value, agreed)


def test_the_ecus_below_are_not_taken_back_when_this_one_was_armed_in_the_end(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_back: List[object] = []
    monkeypatch.setattr("ota_cli.fleet.together.disarm_below", lambda *words: taken_back.append(1))
    found = probe(device)
    order = AskUpdate(("bench",), "https://nowhere.invalid/", "t1")
    with Links(found) as links, Crew(found, links, order, silent) as crew:
        with pytest.raises(SignalReceived) as raised, crew.armed(False):
            interrupt()
        assert raised.value.footprint is Footprint.BOOT
        assert taken_back == []
        with pytest.raises(SignalReceived), crew.armed(False):
            raise SignalReceived(signal.SIGINT)
        assert taken_back == [1]


def test_an_interrupt_right_before_the_first_ecu_is_asked_is_told_as_one(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def too_late() -> Iterator[None]:
        interrupt()
        yield

    monkeypatch.setattr("ota_cli.fleet.together.deferred", too_late)
    found = probe(device)
    order = AskUpdate(("bench",), "https://nowhere.invalid/", "t1")
    with pytest.raises(SignalReceived), Links(found) as links, Crew(found, links, order, silent):
        pass
